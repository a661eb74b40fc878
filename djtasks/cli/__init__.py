"""The command line: a module for each verb. Commands of `manage.py` parse, and call these."""
