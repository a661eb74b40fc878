"""Keys and certificates: who signs calls in this process, and whose signatures count.

A certificate counts because its file lies in SECURITY_CERT_STORE; chains and authorities are not looked at. RSA keys
(PSS padding) and Ed25519 keys are known. Files are read when they are first needed; the store again after a minute, and
when its directory has changed and a signer is unknown, so that a new certificate needs no restart.
"""

import functools
import glob
import os
import threading
import time
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from djtasks.conf import settings
from djtasks.exceptions import ImproperlyConfigured, SecurityError
from djtasks.serializers.optional import library

DIGESTS: Final = ("sha256", "sha384", "sha512")
#: Seconds for which what was read from the store counts.
_FRESH = 60.0


class Signature(NamedTuple):
    """What the owner of a certificate has made of some bytes."""

    #: The SHA-256 fingerprint of the certificate, in hexadecimal.
    signer: str
    digest: str
    value: bytes


class _Signer(NamedTuple):
    key: Any
    fingerprint: str
    certificate: Any


class _Store:
    """The certificates of one directory, or glob."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.lock = threading.Lock()
        self.folder = where if os.path.isdir(where) else os.path.dirname(where) or "."
        self.read_at: float | None = None
        self.changed = 0
        self.certificates: dict[str, Any] = {}

    def find(self, fingerprint: str) -> Any:
        """The certificate, or None."""
        with self.lock:
            if self._is_stale() or (fingerprint not in self.certificates and self._when_changed() != self.changed):
                # The time first: what is added while it is read shows in the next look.
                self.changed = self._when_changed()
                self.certificates = self._read()
                self.read_at = time.monotonic()
            return self.certificates.get(fingerprint)

    def _is_stale(self) -> bool:
        return self.read_at is None or time.monotonic() - self.read_at > _FRESH

    def _when_changed(self) -> int:
        try:
            return os.stat(self.folder).st_mtime_ns
        except OSError:
            return 0

    def _read(self) -> dict[str, Any]:
        pattern = os.path.join(self.where, "*") if os.path.isdir(self.where) else self.where
        found = [_certificate(path, "SECURITY_CERT_STORE") for path in sorted(glob.glob(pattern)) if _is_file(path)]
        if not found:
            raise ImproperlyConfigured(f"DJTASKS['SECURITY_CERT_STORE'], {self.where!r}, holds no certificate")
        return {_fingerprint(certificate): certificate for certificate in found}


#: What `setup_security` was given; it goes before the settings.
_given: dict[str, Any] = {}


def give(**options: Any) -> None:
    """Let these (SECURITY_KEY=…) go before the settings, in this process; None leaves a setting alone."""
    _given.update({name: value for name, value in options.items() if value is not None})


def ungive() -> None:
    """Let the settings alone count again."""
    _given.clear()


def inner() -> str:
    """The name of the serializer of the arguments inside a signed call."""
    return str(_setting("SECURITY_SERIALIZER"))


def sign(data: bytes) -> Signature:
    """The signature of this process. Raises ImproperlyConfigured, SecurityError when its certificate has expired."""
    signer = _own()
    _check_dates(signer.certificate)
    digest = _setting("SECURITY_DIGEST")
    value = signer.key.sign(data, *_padding(digest)) if _is_rsa(signer.key) else signer.key.sign(data)
    return Signature(signer.fingerprint, digest, value)


def verify(signature: Signature, data: bytes) -> None:
    """Raise SecurityError unless the owner of a certificate in the store has signed `data`. Raises
    ImproperlyConfigured."""
    certificate = _store(_path("SECURITY_CERT_STORE")).find(signature.signer)
    if certificate is None:
        raise SecurityError(
            f"the call is signed by {signature.signer[:16]}…, whose certificate is not in SECURITY_CERT_STORE"
        )
    _check_dates(certificate)
    if signature.digest not in DIGESTS:
        raise SecurityError(f"the call is signed with the digest {signature.digest!r:.50}; only {DIGESTS} are strong")
    key = certificate.public_key()
    invalid = library("cryptography.exceptions", "signing").InvalidSignature
    try:
        if _is_rsa(key):
            key.verify(signature.value, data, *_padding(signature.digest))
        else:
            key.verify(signature.value, data)
    except invalid:
        raise SecurityError(
            "the call is not what was signed: its arguments, name, id or what is to follow it were altered"
        ) from None


def check() -> None:
    """Raise ImproperlyConfigured unless this process can sign, and read what it has signed."""
    own = _own()
    if _store(_path("SECURITY_CERT_STORE")).find(own.fingerprint) is None:
        raise ImproperlyConfigured(
            "DJTASKS['SECURITY_CERTIFICATE'] is not in SECURITY_CERT_STORE: no worker would believe what it signs;"
            " copy it there, and to the stores of the other machines"
        )


def _own() -> _Signer:
    missing = [name for name in ("SECURITY_KEY", "SECURITY_CERTIFICATE", "SECURITY_CERT_STORE") if not _setting(name)]
    if missing:
        raise ImproperlyConfigured(
            f"the serializer 'auth' needs {', '.join(missing)} in DJTASKS: the private key that signs, its certificate,"
            " and the directory of the certificates that are believed"
        )
    return _signer(_path("SECURITY_KEY"), _setting("SECURITY_KEY_PASSWORD"), _path("SECURITY_CERTIFICATE"))


@functools.cache
def _signer(key_path: str, password: str | bytes | None, certificate_path: str) -> _Signer:
    serialization = library("cryptography.hazmat.primitives.serialization", "signing")
    secret = password.encode() if isinstance(password, str) else password
    try:
        key = serialization.load_pem_private_key(_read(key_path, "SECURITY_KEY"), secret)
    except (TypeError, ValueError) as error:
        # What the library says of a bad password does not hold it.
        raise ImproperlyConfigured(f"DJTASKS['SECURITY_KEY'], {key_path!r}, cannot be read: {error}") from None
    certificate = _certificate(certificate_path, "SECURITY_CERTIFICATE")
    if key.public_key() != certificate.public_key():
        raise ImproperlyConfigured("DJTASKS['SECURITY_CERTIFICATE'] is not the certificate of SECURITY_KEY")
    return _Signer(key, _fingerprint(certificate), certificate)


_store = functools.cache(_Store)


def _certificate(path: str, setting: str) -> Any:
    try:
        certificate = library("cryptography.x509", "signing").load_pem_x509_certificate(_read(path, setting))
    except ValueError as error:
        raise ImproperlyConfigured(f"DJTASKS[{setting!r}]: {path!r} is no PEM certificate: {error}") from None
    key = certificate.public_key()
    ed25519 = library("cryptography.hazmat.primitives.asymmetric.ed25519", "signing")
    if not _is_rsa(key) and not isinstance(key, ed25519.Ed25519PublicKey):
        raise ImproperlyConfigured(f"DJTASKS[{setting!r}]: {path!r} has neither an RSA nor an Ed25519 key")
    return certificate


def _read(path: str, setting: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ImproperlyConfigured(f"DJTASKS[{setting!r}] cannot be read: {error}") from None


def _is_file(path: str) -> bool:
    return os.path.isfile(path) and not os.path.basename(path).startswith(".")


def _check_dates(certificate: Any) -> None:
    now = datetime.now(UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise SecurityError(
            f"the certificate {_fingerprint(certificate)[:16]}… is valid from {certificate.not_valid_before_utc} to"
            f" {certificate.not_valid_after_utc}, and not now; renew it"
        )


def _fingerprint(certificate: Any) -> str:
    digest: bytes = certificate.fingerprint(library("cryptography.hazmat.primitives.hashes", "signing").SHA256())
    return digest.hex()


def _is_rsa(key: Any) -> bool:
    rsa = library("cryptography.hazmat.primitives.asymmetric.rsa", "signing")
    return isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey)


def _padding(digest: str) -> tuple[Any, Any]:
    hashes = library("cryptography.hazmat.primitives.hashes", "signing")
    padding = library("cryptography.hazmat.primitives.asymmetric.padding", "signing")
    algorithm = getattr(hashes, digest.upper())()
    return padding.PSS(mgf=padding.MGF1(algorithm), salt_length=padding.PSS.MAX_LENGTH), algorithm


def _setting(name: str) -> Any:
    return _given.get(name) or getattr(settings, name)


def _path(name: str) -> str:
    return str(os.fspath(_setting(name)))
