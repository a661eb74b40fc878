"""Which pools there are, and the class of one, imported only when a worker is to use it."""

import importlib
import importlib.util
import os
from typing import NamedTuple

from djtasks.conf.pools import CUSTOM, canonical, is_path, unknown
from djtasks.exceptions import ImproperlyConfigured
from djtasks.worker.pools.base import Pool


class _Known(NamedTuple):
    """A pool of ours."""

    path: str
    #: The module that it cannot do without, which is also the extra that installs it.
    needs: str | None = None


_POOLS = {
    "prefork": _Known("djtasks.worker.pools.prefork:PreforkPool"),
    "threads": _Known("djtasks.worker.pools.threads:ThreadsPool"),
    "solo": _Known("djtasks.worker.pools.solo:SoloPool"),
    "gevent": _Known("djtasks.worker.pools.crowd:GeventPool", "gevent"),
    "eventlet": _Known("djtasks.worker.pools.crowd:EventletPool", "eventlet"),
    "asyncio": _Known("djtasks.worker.pools.crowd:AsyncioPool"),
}


def named(name: str) -> str:
    """The one name of a pool, or the path of a class, for what a user may call it. Raises ImproperlyConfigured."""
    if name == "custom":
        path = os.environ.get(CUSTOM)
        if not path:
            raise ImproperlyConfigured(
                f"the pool 'custom' is the class whose path {CUSTOM} holds, which is not set; set it, or give the path"
            )
        name = path
    return canonical(name)


def pool_class(name: str) -> type[Pool]:
    """The class of a pool. Raises ImproperlyConfigured, with a sentence, for one that there is not."""
    name = named(name)
    known = _POOLS.get(name)
    if known is not None:
        if known.needs is not None and importlib.util.find_spec(known.needs) is None:
            raise ImproperlyConfigured(
                f"the {name} pool needs {known.needs}, which is not installed; install it with: pip install"
                f" 'djtasks[{known.needs}]'"
            )
        return _imported(known.path)
    if not is_path(name):
        raise ImproperlyConfigured(unknown(name))
    return _imported(name)


def _imported(path: str) -> type[Pool]:
    module, _, attribute = path.replace(":", ".").rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise ImproperlyConfigured(f"the pool {path!r} cannot be imported: {error}") from error
    if found is None:
        raise ImproperlyConfigured(f"the pool {path!r} is not there: {module} has no {attribute!r}")
    if not isinstance(found, type) or not issubclass(found, Pool):
        raise ImproperlyConfigured(f"the pool {path!r} is no subclass of {Pool.__module__}.{Pool.__qualname__}")
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    if missing:
        raise ImproperlyConfigured(f"the pool {path!r} does not say what its {', '.join(missing)} is")
    return found
