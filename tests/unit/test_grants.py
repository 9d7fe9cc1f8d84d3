from __future__ import annotations

import json
from functools import cache
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from hypothesis import given
from hypothesis import strategies as st

from state.grants.grant import (
    Grant,
    Grantee,
    GrantFault,
    OpenedGrant,
    Trust,
    grant_status,
    opened_grant,
    signed,
)
from state.grants.mint import Issuer, MintRefused, minted_grant, read_request
from state.grants.scopes import MAX_RECORDS, ScopeRefused, granted_scope
from state.log.stamps import NS_PER_MS, format_instant, parse_instant
from state.sealing import key_pairs
from supervisor.custody.vaults import status_of
from tests.unit.test_grant_vectors import case

Json = dict[str, Any]
MASTER = bytes(range(1, 33))
NOW = parse_instant("2026-04-20T12:00:00.000Z") or 0
DAY = 86_400_000 * NS_PER_MS
BODY: Json = {
    "missionId": "m1",
    "tables": ["notes", "tasks"],
    "recordIds": ["tasks:t1", "notes:n1"],
}
CLAIM = Grantee("u1", "m1")
PEMS = case("grant", "unwrap: ok")["keys"]


@cache
def signing_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes(32))


@cache
def private_key(name: str = "a") -> RSAPrivateKey:
    return key_pairs.runner_private_key(PEMS[name]["privatePem"])


def trust(**more: Any) -> Trust:
    public = signing_key().public_key()
    known: Json = {
        "private_keys": (private_key(),),
        "issuers": {key_pairs.issuer_key_id(public): public},
    }
    return Trust(**known | more)


def mint(now: int = NOW, signer: Ed25519PrivateKey | None = None, **fields: Any) -> Json:
    issuer = Issuer(private_key().public_key(), signer or signing_key())
    request = read_request(BODY | fields)
    return minted_grant(
        request, user_id="u1", master_key=MASTER, issuer=issuer, now=now, exposure="eu"
    )


def key_of(raw: Json, claim: Grantee = CLAIM) -> bytes:
    found = opened_grant(raw, claim, trust(), NOW)
    assert isinstance(found, OpenedGrant)
    with found.key as key:
        return bytes(key.material)


def refusal(raw: object, claim: Grantee = CLAIM, now: int = NOW, **more: Any) -> GrantFault:
    found = opened_grant(raw, claim, trust(**more), now)
    assert isinstance(found, GrantFault)
    return found


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [p for k, v in value.items() for p in paths(v, (*at, k))]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list):
        return [p for k, v in enumerate(value) for p in paths(v, (*at, k))]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return [at]


def altered(raw: Json, path: tuple[Any, ...], value: Any) -> Json:
    copy = json.loads(json.dumps(raw))
    inner = copy
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return copy


def test_a_minted_grant_opens_to_the_same_key_scope_and_consent():
    found = opened_grant(mint(), CLAIM, trust(), NOW)
    assert isinstance(found, OpenedGrant)
    assert (found.version, found.exposure) == ("v2", "eu")
    assert found.scope.record_ids == ("notes:n1", "tasks:t1")
    assert found.expires_at - found.issued_at == 7 * DAY


@given(st.permutations(BODY["recordIds"] * 2), st.permutations(BODY["tables"] * 2))
def test_order_and_repetition_of_the_scope_change_nothing(records: list[str], tables: list[str]):
    assert key_of(mint(recordIds=records, tables=tables)) == key_of(mint())


def test_renewing_gives_the_same_key_and_another_scope_mission_or_user_another():
    again = mint(now=NOW - DAY)
    assert key_of(again) == key_of(mint())
    assert again["wrappedKey"] != mint()["wrappedKey"]
    other = mint(missionId="m2")
    assert key_of(other, Grantee("u1", "m2")) != key_of(mint())
    assert key_of(mint(recordIds=["notes:n1"])) != key_of(mint())


def test_a_thousand_records_fit_and_one_more_is_refused():
    many = [f"notes:00000000-0000-4000-8000-{n:012d}" for n in range(MAX_RECORDS)]
    assert len(key_of(mint(recordIds=many))) == 32
    with pytest.raises(MintRefused) as caught:
        mint(recordIds=[*many, "notes:x"])
    assert (status_of(caught.value.code), caught.value.code) == (400, "BAD_REQUEST")


@given(st.data())
def test_every_changed_character_of_a_signed_grant_is_refused(data: st.DataObject):
    raw = minted()
    path = data.draw(st.sampled_from(paths(raw)))
    inner: Any = raw
    for step in path:
        inner = inner[step]
    at = data.draw(st.integers(0, len(inner) - 1))
    char = data.draw(st.characters(codec="utf-8").filter(lambda c: c != inner[at]))
    changed = altered(raw, path, inner[:at] + char + inner[at + 1 :])
    found = opened_grant(changed, CLAIM, trust(), NOW)
    # The signature's own text is not signed: blanks and idle bits in its base64 change nothing.
    assert isinstance(found, GrantFault) or path == ("signature",)


@cache
def minted() -> Json:
    return mint()


@pytest.mark.parametrize("path", [p for p in paths(mint()) if p != ("signature",)], ids=str)
@pytest.mark.parametrize("value", [None, 5, "", [], {}, "\ud800"], ids=repr)
def test_any_value_anywhere_is_a_refusal_and_no_crash(path: tuple[Any, ...], value: Any):
    copy = mint()
    inner: Any = copy
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    refusal(copy)


@pytest.mark.parametrize("raw", [None, 5, "x", [], {}, {"expiresAt": "2030-01-01"}])
def test_anything_but_a_grant_is_a_refusal(raw: object):
    assert refusal(raw).reason in ("expired", "malformed")


def test_a_grant_is_for_its_user_and_mission_alone():
    assert refusal(mint(), Grantee("u2", "m1")) == GrantFault("malformed", "other-user")
    assert refusal(mint(), Grantee("u1", "m2")) == GrantFault("malformed", "other-mission")


def test_a_longer_life_is_refused_even_with_the_issuers_signature():
    grant = msgspec.convert(mint(), Grant)
    for days, detail in ((31, "lives-too-long"), (-1, None)):
        text = format_instant(NOW + days * DAY)
        longer = signed(msgspec.structs.replace(grant, expires_at=text), signing_key())
        found = refusal(msgspec.to_builtins(longer))
        assert found.detail == (detail or "expired")


def test_a_grant_from_the_future_is_refused_beyond_the_skew():
    assert refusal(mint(now=NOW + DAY)).detail == "issued-in-future"
    assert isinstance(opened_grant(mint(now=NOW + DAY // 1440), CLAIM, trust(), NOW), OpenedGrant)


def test_an_expired_grant_is_refused_and_its_last_instant_is_not():
    end = NOW + 7 * DAY
    assert isinstance(opened_grant(mint(), CLAIM, trust(), end), OpenedGrant)
    assert refusal(mint(), now=end + 1).reason == "expired"


def test_a_stranger_cannot_sign():
    stranger = Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32)
    raw = mint(signer=stranger)
    assert refusal(raw).detail == "unknown-issuer"
    ours = key_pairs.issuer_key_id(signing_key().public_key())
    assert refusal(raw | {"issuerKeyId": ours}).detail == "signature-rejected"
    assert refusal({k: v for k, v in mint().items() if k != "signature"}).detail == "unsigned"


def test_a_mission_id_that_no_text_can_carry_is_refused_before_any_key_is_made():
    with pytest.raises(MintRefused) as caught:
        mint(missionId="m\ud800")
    assert caught.value.code == "BAD_REQUEST"


def test_a_wrapped_key_of_another_length_is_refused():
    short = key_pairs.wrapped(bytearray(16), private_key().public_key(), "v2")
    grant = msgspec.structs.replace(msgspec.convert(mint(), Grant), wrapped_key=short)
    raw = msgspec.to_builtins(signed(grant, signing_key()))
    assert refusal(raw) == GrantFault("malformed", "wrong-key-length")


def test_a_grant_without_a_signature_needs_the_setting():
    issuer = Issuer(private_key().public_key(), None)
    request = read_request(BODY)
    raw = minted_grant(request, user_id="u1", master_key=MASTER, issuer=issuer, now=NOW)
    assert refusal(raw).detail == "v1-not-accepted"
    assert isinstance(opened_grant(raw, CLAIM, trust(accept_v1=True), NOW), OpenedGrant)


def test_a_signed_grant_cannot_be_stripped_to_an_unsigned_one():
    stripped = altered(mint(), ("derivation", "version"), "v1")
    assert refusal(stripped).detail == "v1-not-accepted"
    assert refusal(stripped, accept_v1=True).reason == "wrap-rejected"


def test_the_runners_key_may_rotate():
    both = (private_key("b"), private_key("a"))
    assert isinstance(opened_grant(mint(), CLAIM, trust(private_keys=both), NOW), OpenedGrant)
    only_new = refusal(mint(), private_keys=(private_key("b"),))
    assert only_new.reason == "wrap-rejected"
    assert refusal(mint(), private_keys=()).reason == "not-configured"


@pytest.mark.parametrize(
    ("tables", "records", "field"),
    [
        ([], ["notes:n1"], "tables"),
        (["notes"], [], "recordIds"),
        (["notes"], ["n1"], "recordIds"),
        (["notes"], ["notes:"], "recordIds"),
        (["notes"], ["tasks:t1"], "recordIds"),
        (["notes"], ["notes:a,notes:b"], "recordIds"),
        (["notes"], ["notes:a\x00"], "recordIds"),
        (["notes"], ["notes:\ud800"], "recordIds"),
        (["notes"], ["notes:" + "x" * 600], "recordIds"),
        (["no,tes"], ["no,tes:1"], "tables"),
        ([f"t{n}" for n in range(33)], ["t1:1"], "tables"),
    ],
)
def test_a_scope_must_be_well_formed(tables: list[str], records: list[str], field: str):
    with pytest.raises(ScopeRefused) as caught:
        granted_scope(tables, records)
    assert caught.value.field == field
    assert not any(record in str(caught.value) for record in records)


@pytest.mark.parametrize(
    ("pem", "problem"),
    [
        ("", "holds no PRIVATE KEY"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "PKCS#8"),
        (PEMS["a"]["publicPem"], "holds no PRIVATE KEY"),
    ],
)
def test_a_key_that_is_none_says_so_and_shows_nothing(pem: str, problem: str):
    with pytest.raises(key_pairs.KeyUnusable, match=problem):
        key_pairs.runner_private_key(pem)


def test_a_short_rsa_key_is_refused():
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric import rsa

    short = rsa.generate_private_key(65537, 1024)  # noqa: S505 - refused is what it shall be
    pem = short.private_bytes(
        forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption()
    ).decode()
    with pytest.raises(key_pairs.KeyUnusable, match="1024 bits"):
        key_pairs.runner_private_key(pem)
    spki = short.public_key().public_bytes(
        forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(key_pairs.KeyUnusable, match="1024 bits"):
        key_pairs.runner_public_key(spki.decode())


@pytest.mark.parametrize("text", ["[" * 9000 + "]" * 9000, "1e999", "{", ""], ids=range(4))
def test_a_stored_value_that_nobody_can_read_never_stands_as_a_grant(text: str):
    assert grant_status(text, "m1", NOW) == ("unreadable", None)


def test_a_grant_stands_to_the_instant_of_its_end_and_not_after():
    grant = mint()
    end = parse_instant(grant["expiresAt"]) or 0
    text = json.dumps(grant)
    assert [grant_status(text, "m1", now)[0] for now in (end, end + 1)] == ["active", "expired"]
    assert (grant_status(None, "m1", NOW), grant_status("null", "m1", NOW)) == (("none", None),) * 2
