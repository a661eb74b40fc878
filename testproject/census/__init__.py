"""Code census: reads a tree of Python source, one task a file, and tells what is in it."""
