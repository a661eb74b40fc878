"""Pools: where tasks run. `prefork` in child processes, `threads` in threads, `solo` in the worker's own thread."""
