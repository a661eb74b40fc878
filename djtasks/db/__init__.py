"""The only place that speaks SQL.

Functions take a connection and plain values, work on batches, open no transaction and call no task. A connection is
either Django's own (the caller's transaction) or a private one of psycopg.
"""
