"""Signed calls: what is signed, by whom, and what is refused."""

import json
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from djtasks import serializers
from djtasks.app import app
from djtasks.checks import check_settings
from djtasks.conf import load
from djtasks.exceptions import ContentDisallowed, DecodeError, EncodeError, ImproperlyConfigured, SecurityError
from djtasks.ids import new_task_id
from djtasks.payload import pack_call, unpack_call
from djtasks.serializers import auth, certificates
from djtasks.serializers.optional import library
from tests.keys import PASSWORD, Keys, Pair, make_key, make_pair

ID = "0192f7a0-0000-7000-8000-000000000001"
Configure = Callable[..., None]


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What was read of the files is forgotten."""
    forget()
    yield
    forget()


def forget() -> None:
    library.cache_clear()
    certificates.ungive()
    certificates._signer.cache_clear()
    certificates._store.cache_clear()


@pytest.fixture(scope="module", params=["rsa", "ed25519"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture
def configure() -> Iterator[Configure]:
    """Lets a test set DJTASKS, again and again."""
    overrides: list[override_settings] = []

    def use(values: dict[str, Any]) -> None:
        overrides.append(override_settings(DJTASKS=values))
        overrides[-1].enable()

    yield use
    for override in reversed(overrides):
        override.disable()


@pytest.fixture
def keys(made: Keys, configure: Configure) -> Keys:
    configure(made.settings())
    return made


def signed(args: Any = (1,), kwargs: Any = None, headers: str | None = None, name: str = "shop.pay") -> bytes:
    content_type, encoding, body = pack_call(name, args, kwargs or {}, None, None, ID, headers)
    assert (content_type, encoding) == (auth.CONTENT_TYPE, "")
    return body


def read(body: bytes, name: str = "shop.pay", task_id: str = ID, headers: str | None = None) -> Any:
    return unpack_call(body, auth.CONTENT_TYPE, "", name, task_id, headers)


def test_a_signed_call_is_read_again(keys: Keys) -> None:
    assert read(signed([1, "two"], {"x": None})) == ([1, "two"], {"x": None})


def test_a_signed_call_may_be_compressed(keys: Keys) -> None:
    content_type, encoding, body = pack_call("shop.pay", [[0] * 1000], {}, None, "gzip", ID, None)
    assert unpack_call(body, content_type, encoding, "shop.pay", ID, None) == ([[0] * 1000], {})


def test_every_bit_of_a_signed_call_counts(keys: Keys) -> None:
    body = signed(["abc"])
    line = len(body.partition(b"\n")[0])
    for place in range(line + 1, len(body)):
        altered = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
        with pytest.raises(SecurityError, match="not what was signed"):
            read(altered)


@given(data=st.binary(max_size=300))
def test_any_bytes_are_an_error_of_ours(made: Keys, data: bytes) -> None:
    with override_settings(DJTASKS=made.settings()), pytest.raises((DecodeError, SecurityError)):
        read(data)


def test_a_body_under_another_name_or_id_is_refused(keys: Keys) -> None:
    body = signed()
    with pytest.raises(SecurityError, match="arguments, name, id or what is to follow"):
        read(body, name="shop.refund")
    with pytest.raises(SecurityError, match="not what was signed"):
        read(body, task_id=new_task_id())


def test_a_callback_that_was_added_is_refused_and_another_header_is_not(keys: Keys) -> None:
    body = signed(headers='{"callbacks":[{"task":"a"}],"shadow":"x"}')
    assert read(body, headers='{ "shadow": "y", "callbacks": [{"task": "a"}] }') == ([1], {})
    for altered in ('{"callbacks":[{"task":"b"}]}', None, '{"callbacks":[{"task":"a"}],"errbacks":[{"task":"b"}]}'):
        with pytest.raises(SecurityError, match="what is to follow it"):
            read(body, headers=altered)
    with pytest.raises(SecurityError, match="headers of a signed call cannot be read"):
        read(body, headers="{")


def test_the_content_type_inside_is_signed(keys: Keys) -> None:
    body = signed()
    with pytest.raises(SecurityError):
        read(body.replace(b'"application/json"', b'"application/x-yaml"'))


def test_a_signature_of_somebody_else_is_refused(keys: Keys, configure: Configure) -> None:
    configure(keys.settings(keys.new))
    body = signed()
    configure(keys.settings())
    with pytest.raises(SecurityError, match="whose certificate is not in SECURITY_CERT_STORE"):
        read(body)
    line, _, rest = body.partition(b"\n")
    said = {**json.loads(line), "signer": json.loads(signed().partition(b"\n")[0])["signer"]}
    with pytest.raises(SecurityError, match="not what was signed"):
        read(json.dumps(said).encode() + b"\n" + rest)


def test_while_a_key_is_replaced_both_certificates_count(keys: Keys, configure: Configure) -> None:
    before = signed(["before"])
    keys.trust(keys.new)
    try:
        configure(keys.settings(keys.new))
        after = signed(["after"])
        assert [read(before)[0], read(after)[0]] == [["before"], ["after"]]
        keys.distrust(keys.old)
        forget()
        assert read(after)[0] == ["after"]
        with pytest.raises(SecurityError, match="not in SECURITY_CERT_STORE"):
            read(before)
    finally:
        keys.trust(keys.old)
        keys.distrust(keys.new)


def test_a_new_certificate_in_the_store_counts_without_a_restart(keys: Keys, configure: Configure) -> None:
    read(signed())
    configure(keys.settings(keys.new))
    body = signed()
    configure(keys.settings())
    with pytest.raises(SecurityError):
        read(body)
    keys.trust(keys.new)
    try:
        assert read(body) == ([1], {})
    finally:
        keys.distrust(keys.new)


def test_a_certificate_that_was_taken_out_counts_for_a_minute_at_most(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = signed()
    read(body)
    keys.trust(keys.new)
    keys.distrust(keys.old)
    try:
        assert read(body) == ([1], {})
        monkeypatch.setattr(certificates, "_FRESH", -1.0)
        with pytest.raises(SecurityError, match="not in SECURITY_CERT_STORE"):
            read(body)
    finally:
        keys.trust(keys.old)
        keys.distrust(keys.new)


def test_an_unsigned_call_is_refused_where_only_signed_ones_are_accepted(keys: Keys) -> None:
    content_type, encoding, body = pack_call("shop.pay", [1], {}, "json", None, ID, None)
    with pytest.raises(ContentDisallowed, match="only auth is accepted"):
        unpack_call(body, content_type, encoding, "shop.pay", ID, None)


def test_a_signed_call_is_refused_where_it_is_not_accepted(keys: Keys, configure: Configure) -> None:
    body = signed()
    configure(keys.settings(ACCEPT_CONTENT=["json"]))
    with pytest.raises(ContentDisallowed, match="add 'auth' to ACCEPT_CONTENT"):
        read(body)


@pytest.mark.parametrize(
    ("begins", "ends"),
    [(timedelta(days=-2), timedelta(days=-1)), (timedelta(days=1), timedelta(days=2))],
    ids=["expired", "not yet valid"],
)
def test_a_certificate_out_of_its_time_neither_signs_nor_counts(
    tmp_path: Path, configure: Configure, begins: timedelta, ends: timedelta
) -> None:
    keys = Keys(tmp_path)
    configure(keys.settings())
    signer = make_key()
    in_time = make_pair(tmp_path, "same", key=signer)
    keys.trust(in_time)
    configure(keys.settings(in_time))
    good = signed()
    assert read(good) == ([1], {})
    late = make_pair(tmp_path, "late", key=signer, begins=begins, ends=ends)
    keys.trust(late)
    configure(keys.settings(late))
    with pytest.raises(SecurityError, match="and not now; renew it"):
        signed()
    said = json.loads(good.partition(b"\n")[0])
    said["signer"] = certificates._own().fingerprint
    with pytest.raises(SecurityError, match="and not now; renew it"):
        read(json.dumps(said).encode() + b"\n" + good.partition(b"\n")[2])


def test_a_weak_digest_is_refused(tmp_path: Path, configure: Configure) -> None:
    configure(Keys(tmp_path).settings())
    with pytest.raises(SecurityError, match="only .* are strong"):
        read(signed().replace(b'"sha256"', b'"md5"'))


@pytest.mark.parametrize("digest", certificates.DIGESTS)
def test_each_strong_digest_signs_and_is_read_whatever_the_reader_signs_with(
    tmp_path: Path, configure: Configure, digest: str
) -> None:
    keys = Keys(tmp_path)
    configure(keys.settings(SECURITY_DIGEST=digest))
    body = signed()
    configure(keys.settings())
    assert json.loads(body.partition(b"\n")[0])["digest"] == digest
    assert read(body) == ([1], {})


def test_a_key_may_have_a_password(tmp_path: Path, configure: Configure) -> None:
    keys = Keys(tmp_path)
    secret = make_pair(tmp_path, "secret", password=PASSWORD)
    keys.trust(secret)
    configure(keys.settings(secret, SECURITY_KEY_PASSWORD=PASSWORD))
    assert read(signed()) == ([1], {})
    configure(keys.settings(secret, SECURITY_KEY_PASSWORD="wrong"))
    with pytest.raises(ImproperlyConfigured, match="SECURITY_KEY.* cannot be read") as raised:
        signed()
    assert "wrong" not in str(raised.value)


def test_pickle_travels_inside_of_a_signature(keys: Keys, configure: Configure) -> None:
    configure(keys.settings(SECURITY_SERIALIZER="pickle"))
    body = signed([{1, 2}])
    assert read(body) == (([{1, 2}]), {})
    configure(keys.settings())
    with pytest.raises(ContentDisallowed):
        read(body)


def test_what_is_no_call_is_not_signed(keys: Keys) -> None:
    with pytest.raises(EncodeError, match="only calls are signed"):
        serializers.dumps(1, "auth")
    with pytest.raises(DecodeError, match="together with its id and name"):
        serializers.loads(signed(), auth.CONTENT_TYPE, ["auth"])


def test_results_are_read_in_json_where_only_signed_calls_are_accepted() -> None:
    assert load({"ACCEPT_CONTENT": ["auth"]}).RESULT_ACCEPT_CONTENT == ("json",)
    assert load({"ACCEPT_CONTENT": ["auth", "yaml"]}).RESULT_ACCEPT_CONTENT == ("yaml",)


# -- what is configured wrongly -----------------------------------------------------------------------------------


def test_settings_that_fit_have_no_problem(keys: Keys) -> None:
    assert check_settings() == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"SECURITY_KEY": None}, "needs SECURITY_KEY in DJTASKS"),
        ({"SECURITY_CERTIFICATE": None, "SECURITY_CERT_STORE": None}, "SECURITY_CERTIFICATE, SECURITY_CERT_STORE"),
        ({"SECURITY_KEY": "/nowhere"}, "No such file"),
        ({"SECURITY_KEY": "{certificate}"}, "cannot be read"),
        ({"SECURITY_CERTIFICATE": "{key}"}, "is no PEM certificate"),
        ({"SECURITY_CERTIFICATE": "{other}"}, "is not the certificate of SECURITY_KEY"),
        ({"SECURITY_CERT_STORE": "/nowhere/*.pem"}, "holds no certificate"),
        ({"SECURITY_CERT_STORE": "{other}"}, "no worker would believe what it signs"),
    ],
)
def test_what_is_missing_or_unfit_is_said_by_the_system_check(
    made: Keys, configure: Configure, wrong: dict[str, Any], says: str
) -> None:
    paths = {"key": made.old.key, "certificate": made.old.certificate, "other": made.new.certificate}
    given_ = {name: value and value.format(**paths) for name, value in wrong.items()}
    configure(made.settings(**given_))
    [message] = check_settings()
    assert message.id == "djtasks.E007"
    assert says in str(message.msg)


def test_a_key_that_is_neither_rsa_nor_ed25519_is_refused(tmp_path: Path, configure: Configure) -> None:
    keys = Keys(tmp_path)
    curve = make_pair(tmp_path, "curve", "ec")
    keys.trust(curve)
    configure(keys.settings(curve))
    with pytest.raises(ImproperlyConfigured, match="neither an RSA nor an Ed25519 key"):
        signed()


def test_a_missing_library_is_named_with_what_installs_it(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("cryptography", "cryptography.x509", "cryptography.hazmat.primitives.serialization"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImproperlyConfigured, match=r"pip install 'djtasks\[signing\]'"):
        signed()


def test_signed_results_and_unsigned_calls_beside_signed_ones_are_said(made: Keys, configure: Configure) -> None:
    configure(made.settings(RESULT_SERIALIZER="auth"))
    assert [message.id for message in check_settings()] == ["djtasks.E030"]
    configure(made.settings(ACCEPT_CONTENT=["auth", "json"]))
    [message] = check_settings()
    assert (message.id, "lets unsigned calls in: json" in str(message.msg)) == ("djtasks.W030", True)


def test_setup_security_takes_what_the_settings_leave_out(made: Keys, configure: Configure) -> None:
    configure({"TASK_SERIALIZER": "auth", "ACCEPT_CONTENT": ["auth"]})
    with pytest.raises(ImproperlyConfigured, match="needs SECURITY_KEY, SECURITY_CERTIFICATE, SECURITY_CERT_STORE"):
        app.setup_security()
    pair: Pair = made.old
    app.setup_security(key=str(pair.key), cert=str(pair.certificate), store=str(made.store), serializer="pickle")
    assert read(signed([{1}])) == (([{1}]), {})


def test_setup_security_wants_signed_calls_and_no_others(made: Keys, configure: Configure) -> None:
    for settings in ({}, made.settings(ACCEPT_CONTENT=["auth", "json"]), made.settings(TASK_SERIALIZER="json")):
        configure(settings)
        with pytest.raises(ImproperlyConfigured, match=r"TASK_SERIALIZER to 'auth' and ACCEPT_CONTENT to \['auth'\]"):
            app.setup_security()
    configure(made.settings())
    with pytest.raises(ImproperlyConfigured, match="digest must be one of sha256"):
        app.setup_security(digest="md5")
