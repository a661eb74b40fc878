"""What is refused because it could be unsafe: calls that nobody signed, and a worker that may do everything."""

import os
import warnings
from collections.abc import Collection

from djtasks.conf import settings
from djtasks.exceptions import ImproperlyConfigured, SecurityError, SecurityWarning
from djtasks.serializers import auth, certificates, find

try:
    import grp
except ImportError:  # a system without groups has no root either
    grp = None  # type: ignore[assignment]

#: Groups whose members may become root.
_MIGHTY = ("sudo", "wheel")
_PICKLE = "pickle"


def setup_security(
    allowed_serializers: Collection[str] | None = None,
    key: str | None = None,
    key_password: str | bytes | None = None,
    cert: str | None = None,
    store: str | None = None,
    digest: str | None = None,
    serializer: str | None = None,
) -> None:
    """See that calls are signed, and that nothing else is read: Celery's way to turn on the serializer `auth`.

    The settings are enough: this checks them at once, and what is given here goes before SECURITY_KEY,
    SECURITY_KEY_PASSWORD, SECURITY_CERTIFICATE, SECURITY_CERT_STORE, SECURITY_DIGEST and SECURITY_SERIALIZER in this
    process. `allowed_serializers` means nothing here, for nothing is read that ACCEPT_CONTENT does not name.

    Raises ImproperlyConfigured unless TASK_SERIALIZER is auth and ACCEPT_CONTENT holds nothing else, and when a key or
    certificate is missing or unfit, or the library `cryptography` is.
    """
    if settings.TASK_SERIALIZER != auth.NAME or tuple(settings.ACCEPT_CONTENT) != (auth.NAME,):
        raise ImproperlyConfigured(
            "to have calls signed, and only signed ones read, set TASK_SERIALIZER to 'auth' and ACCEPT_CONTENT to"
            " ['auth'] in DJTASKS"
        )
    if digest is not None and digest not in certificates.DIGESTS:
        raise ImproperlyConfigured(f"digest must be one of {', '.join(certificates.DIGESTS)}, not {digest!r}")
    certificates.give(
        SECURITY_KEY=key,
        SECURITY_KEY_PASSWORD=key_password,
        SECURITY_CERTIFICATE=cert,
        SECURITY_CERT_STORE=store,
        SECURITY_DIGEST=digest,
        SECURITY_SERIALIZER=None if serializer is None else find(serializer).name,
    )
    certificates.check()


def check_privileges(accept_content: Collection[str]) -> None:
    """Raise SecurityError when this process is root, or may become it, and reads pickle; warn when it is root.

    C_FORCE_ROOT, in the environment, lets it pass.
    """
    if grp is None or not _is_mighty():
        return
    ids = f"uid {os.getuid()}, euid {os.geteuid()}, gid {os.getgid()}, egid {os.getegid()}"
    reads_pickle = _PICKLE in accept_content or find(_PICKLE).content_type in accept_content
    if reads_pickle and not os.environ.get("C_FORCE_ROOT"):
        raise SecurityError(
            f"this worker has superuser privileges ({ids}) and reads pickle, so that whoever can write to the database"
            " could run any code as root; run it as another user, take pickle out of"
            " ACCEPT_CONTENT, or set C_FORCE_ROOT=1 in the environment if you mean it"
        )
    warnings.warn(
        SecurityWarning(f"this worker has superuser privileges ({ids}); run it as a user of its own"), stacklevel=2
    )


def _is_mighty() -> bool:
    if 0 in (os.getuid(), os.geteuid()):
        return True
    return any(_group(gid) in _MIGHTY for gid in (os.getgid(), os.getegid()))


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""
