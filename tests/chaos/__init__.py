"""Faults, and an audit of what they did: `python -m tests.chaos`.

A producer enqueues, workers run, something is broken over and over, and then everything is counted. What was accepted
and what ran is written to files, outside of the database under test.

    site       a PostgreSQL, databases with the tables, machinery of one scenario (`Ground`)
    producer   a process that enqueues in all modes and writes down what was accepted
    tasks      what runs, and writes down that it ran
    proxy      a TCP proxy that loses answers, and cuts off
    pools      the pools that all of it is played with
    scenarios  what is broken, and how often
    crowding   too much: of one queue, of work, of workers, of memory
    hardship   a full disk, an end while the server is away, an upgrade
    run        one after another; `several` does it with all pools
    audit      what was accepted, what ran, what is stored, and how they disagree
    growth     claims and drains beside millions of other rows: `python -m tests.chaos.growth`
"""
