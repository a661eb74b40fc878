"""An app whose tasks are told of."""
