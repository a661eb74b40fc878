"""The serializers whose libraries are extras."""

from typing import Any

from djtasks.serializers.optional import library

#: How deep YAML may be nested. libyaml reads each level in a call of its own, and the process ends with its stack:
#: this fits into 256 KB, and is more than PyYAML writes with Python's usual recursion limit.
YAML_DEPTH_MAX = 500


def yaml_dumps(value: Any) -> bytes:
    """`value` as YAML of plain types only. Raises yaml.YAMLError, ImproperlyConfigured."""
    yaml = library("yaml", "yaml")
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return bytes(yaml.dump(value, Dumper=dumper, encoding="utf-8", allow_unicode=True))


def yaml_loads(body: bytes) -> Any:
    """The value of YAML that holds plain types only.

    Raises yaml.YAMLError, RecursionError when it is nested deeper than YAML_DEPTH_MAX, ImproperlyConfigured.
    """
    yaml = library("yaml", "yaml")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    # A level takes a byte at least.
    if len(body) > YAML_DEPTH_MAX:
        _check_depth(yaml, body, loader)
    return yaml.load(body, Loader=loader)


def _check_depth(yaml: Any, body: bytes, loader: Any) -> None:
    """Raise RecursionError for what is nested too deeply: the parser's events come one by one, on no stack."""
    depth = 0
    for event in yaml.parse(body, Loader=loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > YAML_DEPTH_MAX:
                raise RecursionError
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def msgpack_dumps(value: Any) -> bytes:
    """`value` as MessagePack, text and bytes kept apart. Raises TypeError, ValueError, ImproperlyConfigured."""
    return bytes(library("msgpack", "msgpack").packb(value, use_bin_type=True))


def msgpack_loads(body: bytes) -> Any:
    """The value of MessagePack. Raises ValueError, ImproperlyConfigured."""
    return library("msgpack", "msgpack").unpackb(body, raw=False, strict_map_key=False)
