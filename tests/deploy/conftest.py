"""What the tests of deployments share with those of workers."""

from tests.worker.conftest import gate, migrated

__all__ = ["gate", "migrated"]
