"""Whose token it is: over a real socket to an auth service that rotates, fails and goes away."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.datastructures import Headers

from supervisor.gateway.people.tokens import (
    ASK_AGAIN_S,
    FRESH_S,
    MAX_TOKEN_CHARS,
    RETRY_S,
    STALE_S,
    Expected,
    KeySet,
    TokenRefused,
    Verifier,
)
from tests.fake_auth import FakeAuth, jwk_of


class Clock:
    """Moves by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Gate:
    """A verifier that looks at a fake auth service."""

    def __init__(self, auth: FakeAuth) -> None:
        self.auth, self.clock = auth, Clock()
        self.keys = KeySet(auth.url, self.clock)
        self._verifier = Verifier(self.keys, Expected((auth.url, "https://other"), "mana"))

    async def user(self, token: str) -> str:
        return await self._verifier.user(Headers({"Authorization": f"Bearer {token}"}))

    async def refuses(self, token: str) -> str:
        with pytest.raises(TokenRefused) as caught:
            await self.user(token)
        return caught.value.reason


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    async with FakeAuth() as auth:
        yield Gate(auth)


def _part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _forged(header: Any, claims: Any, signature: bytes = b"") -> str:
    return f"{_part(header)}.{_part(claims)}.{_part(signature)}"


async def test_a_token_of_the_auth_service_tells_whose_it_is(gate: Gate):
    assert await gate.user(gate.auth.token("u1")) == "u1"
    assert await gate.user(gate.auth.token("u2", iss="https://other")) == "u2"
    assert await gate.user(gate.auth.token("u3", aud=["x", "mana"])) == "u3"
    assert gate.auth.asked == 1


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"exp": 1}, "expired"),
        ({"exp": None}, "lacks"),
        ({"exp": "soon"}, "invalid"),
        ({"exp": 1e400}, "invalid"),
        ({"nbf": time.time() + 3600}, "not valid yet"),
        ({"nbf": "later"}, "invalid"),
        ({"iat": time.time() + 3600}, "not valid yet"),
        ({"aud": None}, "lacks"),
        ({"aud": "other"}, "audience"),
        ({"aud": []}, "lacks"),
        ({"aud": 1}, "audience"),
        ({"iss": None}, "lacks"),
        ({"iss": "https://evil"}, "issuer"),
        ({"iss": ["https://other"]}, "issuer"),
        ({"sub": None}, "lacks"),
        ({"sub": ""}, "sub"),
        ({"sub": 7}, "invalid"),
        ({"sub": "a\0b"}, "sub"),
        ({"sub": "x" * 513}, "sub"),
        ({"sub": "\ud800"}, "sub"),
    ],
    ids=range(20),
)
async def test_a_token_for_somebody_or_some_time_else_is_refused(
    gate: Gate, changed: dict[str, Any], reason: str
):
    token = jwt.api_jws.encode(
        json.dumps(_claims(gate, changed)).encode(), gate.auth.signing["k1"], "EdDSA", {"kid": "k1"}
    )
    assert reason in await gate.refuses(token)


def _claims(gate: Gate, changed: dict[str, Any]) -> dict[str, Any]:
    return gate.auth.claims("u1", **changed)


async def test_no_other_algorithm_is_taken_whatever_key_it_names(gate: Gate):
    claims, public = gate.auth.claims("u1"), gate.auth.signing["k1"].public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for secret in (pem, public.public_bytes_raw(), b""):
        header = {"alg": "HS256", "typ": "JWT", "kid": "k1"}
        signed = f"{_part(header)}.{_part(claims)}".encode()
        tag = hmac.new(secret, signed, hashlib.sha256).digest()
        assert await gate.refuses(_forged(header, claims, tag)) == "unsupported algorithm"
    for name in ("none", "None", "NONE", "", None, "ES256", "eddsa", "Ed25519"):
        assert await gate.refuses(_forged({"alg": name, "kid": "k1"}, claims)) in (
            "unsupported algorithm",
            "malformed token",
        )
    rs256 = rsa.generate_private_key(65537, 2048)
    token = jwt.encode(claims, rs256, "RS256", {"kid": "k1"})
    assert await gate.refuses(token) == "unsupported algorithm"
    unsigned = _forged({"alg": "EdDSA", "kid": "k1"}, claims)
    assert await gate.refuses(unsigned) == "invalid token"


async def test_a_key_of_another_kind_in_the_key_set_is_never_used(gate: Gate):
    stranger = Ed25519PrivateKey.generate()
    strange: list[Any] = [
        {"kty": "oct", "kid": "hmac", "k": _part(b"secret" * 6), "alg": "HS256"},
        jwk_of(stranger, "enc", use="enc"),
        jwk_of(stranger, "es", alg="ES256"),
        {**jwk_of(stranger, "x448"), "crv": "Ed448"},
        {**jwk_of(stranger, "short"), "x": "AAAA"},
        {**jwk_of(stranger, "text"), "x": 7},
        None,
    ]
    gate.auth.keys += strange
    for kid in ("hmac", "enc", "es", "x448", "short", "text"):
        gate.clock.now += ASK_AGAIN_S + 1
        token = jwt.encode(gate.auth.claims("u1"), stranger, "EdDSA", {"kid": kid})
        assert await gate.refuses(token) == "unknown signing key"
    assert await gate.user(gate.auth.token("u1")) == "u1"


async def test_a_changed_byte_anywhere_is_refused(gate: Gate):
    token = gate.auth.token("u1")
    for at in range(0, len(token), 7):
        changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        if changed.rpartition(".")[2][:-1] != token.rpartition(".")[2][:-1] or at < len(token) - 1:
            await gate.refuses(changed)


@pytest.mark.parametrize(
    "token",
    ["", "x", "a.b.c", "...", "a" * (MAX_TOKEN_CHARS + 1), "ä.ö.ü", _part(b"[" * 3000) + ".e30.AA"],
    ids=range(7),
)
async def test_what_is_no_token_is_refused_without_asking_anybody(gate: Gate, token: str):
    await gate.refuses(token)
    assert gate.auth.asked == 0


async def test_two_authorization_headers_or_another_scheme_are_no_token(gate: Gate):
    token = gate.auth.token("u1")
    verifier = Verifier(gate.keys, Expected((gate.auth.url,), "mana"))
    twice = Headers(raw=[(b"authorization", f"Bearer {token}".encode())] * 2)
    for headers in (twice, Headers({"Authorization": f"Basic {token}"}), Headers({})):
        with pytest.raises(TokenRefused, match="missing bearer token"):
            await verifier.user(headers)


async def test_critical_extensions_that_we_do_not_know_are_refused(gate: Gate):
    headers = {"kid": "k1", "crit": ["b64"], "b64": True}
    token = jwt.encode(gate.auth.claims("u1"), gate.auth.signing["k1"], "EdDSA", headers)
    assert await gate.refuses(token) in ("unsupported algorithm", "malformed token")


async def test_a_new_key_id_is_asked_for_at_once_and_made_up_ones_seldom(gate: Gate):
    assert await gate.user(gate.auth.token("u1")) == "u1"
    gate.auth.rotate("k2")
    gate.clock.now += ASK_AGAIN_S
    assert await gate.user(gate.auth.token("u1", "k2")) == "u1"
    assert gate.auth.asked == 2
    for number in range(50):
        gate.auth.signing[f"made-up-{number}"] = Ed25519PrivateKey.generate()
        await gate.refuses(gate.auth.token("u1", f"made-up-{number}"))
    assert gate.auth.asked == 2
    gate.clock.now += ASK_AGAIN_S
    await asyncio.gather(*(gate.refuses(gate.auth.token("u1", "made-up-1")) for _ in range(20)))
    assert gate.auth.asked == 3


async def test_a_withdrawn_key_is_refused_once_the_set_was_fetched_anew(gate: Gate):
    gate.auth.rotate("k2")
    token = gate.auth.token("u1", "k1")
    assert await gate.user(token) == "u1"
    gate.auth.keys = gate.auth.keys[1:]
    gate.clock.now += FRESH_S + 1
    await gate.user(gate.auth.token("u1", "k2"))  # begins the renewal
    async with asyncio.timeout(5):
        while gate.auth.asked < 2:  # noqa: ASYNC110 - the fake's counter has no event
            await asyncio.sleep(0.01)
        while not await _is_refused(gate, token):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)


async def _is_refused(gate: Gate, token: str) -> bool:
    try:
        await gate.user(token)
    except TokenRefused:
        return True
    return False


async def test_known_keys_outlive_an_auth_service_that_is_down_for_an_hour(gate: Gate):
    token = gate.auth.token("u1")
    await gate.user(token)
    await gate.auth.stop()
    gate.clock.now += STALE_S - 1
    assert await gate.user(token) == "u1"
    gate.clock.now += 2 + RETRY_S
    assert await gate.refuses(token) == "no keys to check tokens by"
    await gate.auth.start()
    gate.clock.now += RETRY_S
    assert await gate.user(token) == "u1"


@pytest.mark.parametrize(
    ("status", "raw"),
    [(500, None), (302, None), (200, b"[]"), (200, b"not json"), (200, b'{"keys":7}'),
     (200, b"\xff"), (200, b" " * 70_000), (200, b'{"keys":' + b"[" * 9000)],
)  # fmt: skip
async def test_an_answer_that_is_no_key_set_lets_nobody_in(
    gate: Gate, status: int, raw: bytes | None
):
    gate.auth.status, gate.auth.raw = status, raw
    assert await gate.refuses(gate.auth.token("u1")) == "no keys to check tokens by"


async def test_a_token_without_a_key_id_needs_a_set_of_one(gate: Gate):
    token = jwt.encode(gate.auth.claims("u1"), gate.auth.signing["k1"], "EdDSA")
    assert await gate.user(token) == "u1"
    gate.auth.rotate("k2")
    gate.clock.now += ASK_AGAIN_S
    await gate.user(gate.auth.token("u1", "k2"))
    assert await gate.refuses(token) == "unknown signing key"
