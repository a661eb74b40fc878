"""Who may use the monitor's API: how that is said in the settings. Tokens themselves are never shown, nor kept."""

import difflib
import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from djtasks.conf.kinds import Kind, Unfit
from djtasks.exceptions import safe_repr

#: What a token may be permitted to do: permissions of Django's, of the app `djtasks`.
PERMISSIONS: Final = (
    "view_worker",
    "change_worker",
    "view_queue",
    "view_message",
    "view_result",
    "view_payload_message",
    "view_payload_result",
    "add_message",
    "revoke_message",
    "terminate_message",
)
#: The fewest characters of a token.
SHORTEST: Final = 20
_WANTS: Final = (
    "a dict of names to dicts with token or token_sha256, and permissions; or a function, or its dotted path"
)
_DOTTED = re.compile(r"[^\W\d]\w*(?:[.:][^\W\d]\w*)+")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Token(NamedTuple):
    """One token, without itself."""

    #: The hexadecimal SHA-256 of its UTF-8.
    sha256: str
    permissions: frozenset[str]


def digest(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def permitted(found: Any, whose: str) -> frozenset[str]:
    """These permissions, named with or without `djtasks.`. Raises Unfit."""
    if isinstance(found, str) or not isinstance(found, list | tuple | set | frozenset):
        raise Unfit(f"must have permissions for {whose}, a list of texts as ['view_worker']")
    names = set()
    for each in found:
        name = each.removeprefix("djtasks.") if isinstance(each, str) else each
        if name not in PERMISSIONS:
            near = difflib.get_close_matches(str(name)[:100], PERMISSIONS, n=1)
            text = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(PERMISSIONS)}"
            raise Unfit(f"has the permission {safe_repr(name, 100)} for {whose}, which there is not{text}")
        names.add(name)
    return frozenset(names)


def _read(value: Any) -> Any:
    if callable(value) or (isinstance(value, str) and _DOTTED.fullmatch(value)):
        return value
    if not isinstance(value, Mapping):
        # Never the value itself: it may be a token.
        raise Unfit(f"must be {_WANTS}")
    return {name: _token(name, said) for name, said in value.items()}


def _token(name: Any, said: Any) -> Token:
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 100:
        raise Unfit("must name its tokens by texts of 1 to 100 characters")
    if isinstance(said, Token):
        return said
    whose = repr(name)
    if not isinstance(said, Mapping) or not {*said} <= {"token", "token_sha256", "permissions"}:
        raise Unfit(f"must have a dict with token or token_sha256, and permissions, for {whose}, and nothing else")
    if ("token" in said) == ("token_sha256" in said):
        raise Unfit(f"must have either token or token_sha256 for {whose}")
    if "token" in said:
        text = said["token"]
        if not isinstance(text, str) or len(text) < SHORTEST or not text.isascii() or re.search(r"[\s\x00-\x1f]", text):
            hint = "make one with secrets.token_urlsafe()"
            raise Unfit(f"must have a token of {SHORTEST} ASCII characters or more, none blank, for {whose}: {hint}")
        sha256 = digest(text)
    else:
        sha256 = str(said["token_sha256"]).lower()
        if not _SHA256.fullmatch(sha256):
            raise Unfit(f"must have the 64 hexadecimal digits of a SHA-256 as token_sha256 for {whose}")
    return Token(sha256, permitted(said.get("permissions"), whose))


TOKENS: Final = Kind(_WANTS, _read)
