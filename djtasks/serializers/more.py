"""The serializers whose libraries are extras."""

from typing import Any

from djtasks.serializers.optional import library


def yaml_dumps(value: Any) -> bytes:
    """`value` as YAML of plain types only. Raises yaml.YAMLError, ImproperlyConfigured."""
    yaml = library("yaml", "yaml")
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return bytes(yaml.dump(value, Dumper=dumper, encoding="utf-8", allow_unicode=True))


def yaml_loads(body: bytes) -> Any:
    """The value of YAML that holds plain types only. Raises yaml.YAMLError, ImproperlyConfigured."""
    yaml = library("yaml", "yaml")
    return yaml.load(body, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def msgpack_dumps(value: Any) -> bytes:
    """`value` as MessagePack, text and bytes kept apart. Raises TypeError, ValueError, ImproperlyConfigured."""
    return bytes(library("msgpack", "msgpack").packb(value, use_bin_type=True))


def msgpack_loads(body: bytes) -> Any:
    """The value of MessagePack. Raises ValueError, ImproperlyConfigured."""
    return library("msgpack", "msgpack").unpackb(body, raw=False, strict_map_key=False)
