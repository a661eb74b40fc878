"""The worker: what claims messages, runs them in its pool, and finishes them."""
