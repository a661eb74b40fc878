"""A real site that uses djtasks: it is the demo, the playground and the ground of the tests."""
