"""What the tests of canvas share with those of calling."""

from tests.calling.conftest import _sessions, configure, registry, run

__all__ = ["_sessions", "configure", "registry", "run"]
