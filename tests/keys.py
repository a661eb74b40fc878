"""Private keys and certificates for tests."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

PASSWORD = "open sesame"


class Pair(NamedTuple):
    """A key's file, and the file of its certificate."""

    key: Path
    certificate: Path


def make_key(kind: str = "rsa") -> Any:
    """A private key."""
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())


def make_pair(
    folder: Path,
    name: str,
    kind: str = "rsa",
    *,
    begins: timedelta = timedelta(hours=-1),
    ends: timedelta = timedelta(days=1),
    password: str | None = None,
    key: Any = None,
) -> Pair:
    """A key and its certificate, in files; valid from and to these times, from now."""
    key = key or make_key(kind)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .sign(key, None if kind == "ed25519" else hashes.SHA256())
    )
    hidden: Any = serialization.NoEncryption()
    if password is not None:
        hidden = serialization.BestAvailableEncryption(password.encode())
    pair = Pair(folder / f"{name}.key", folder / f"{name}.pem")
    pair.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden))
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return pair


class Keys:
    """Two pairs, and a store that holds the certificate of the first."""

    def __init__(self, folder: Path, kind: str = "rsa") -> None:
        self.folder = folder
        self.kind = kind
        self.store = folder / "store"
        self.store.mkdir()
        self.old, self.new = make_pair(folder, "old", kind), make_pair(folder, "new", kind)
        self.trust(self.old)

    def trust(self, pair: Pair) -> None:
        """Put a certificate into the store."""
        (self.store / pair.certificate.name).write_bytes(pair.certificate.read_bytes())

    def distrust(self, pair: Pair) -> None:
        """Take it out."""
        (self.store / pair.certificate.name).unlink()

    def settings(self, pair: Pair | None = None, **more: Any) -> dict[str, Any]:
        """DJTASKS of a process that signs with this pair, or the first."""
        pair = pair or self.old
        return {
            "TASK_SERIALIZER": "auth",
            "ACCEPT_CONTENT": ["auth"],
            "SECURITY_KEY": str(pair.key),
            "SECURITY_CERTIFICATE": str(pair.certificate),
            "SECURITY_CERT_STORE": str(self.store),
            **more,
        }
