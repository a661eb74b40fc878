"""The admin shows what is in a signed call, and trusts it in nothing."""

from pathlib import Path

import pytest
from django.test import override_settings

from djtasks.admin import payload
from djtasks.admin.payload import Bytes, Unreadable, decode
from djtasks.payload import pack_call
from djtasks.serializers import certificates
from tests.keys import Keys


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    certificates.ungive()
    return Keys(tmp_path, "ed25519")


def packed(keys: Keys, compression: str | None = None, **settings: str) -> Bytes:
    with override_settings(DJTASKS=keys.settings(**settings)):
        content_type, encoding, body = pack_call("shop.pay", ["an argument"], {}, None, compression, "an id", None)
    return Bytes(body, len(body), content_type, encoding)


def test_a_signed_call_is_shown_by_a_site_that_has_no_certificates(keys: Keys) -> None:
    assert payload.settings.SECURITY_CERT_STORE is None
    assert decode(packed(keys), ["json"]) == [["an argument"], {}]
    assert decode(packed(keys, "gzip"), ["json"]) == [["an argument"], {}]


def test_pickle_inside_of_a_signature_that_nobody_has_looked_at_is_not_read(keys: Keys) -> None:
    with pytest.raises(Unreadable, match="was refused, for only json, msgpack, yaml is accepted"):
        decode(packed(keys, SECURITY_SERIALIZER="pickle"), ["auth", "pickle"])
