"""What every task of every side is called with; known to interpreters that have neither Django nor Celery."""

#: The argument alone is 80 bytes, so that no encoding of the call is shorter.
PAYLOAD = "".join(f"{number:02d}" for number in range(40))
