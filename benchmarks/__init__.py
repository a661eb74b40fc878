"""How fast djtasks is, and what it costs: `python -m benchmarks`. What each figure means stands in docs/benchmarks.md.

This file imports nothing: the modules that run on Celery's side are read by an interpreter without Django.
"""
