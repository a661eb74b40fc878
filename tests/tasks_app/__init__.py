"""An app with tasks of Django's own framework."""
