"""The auth service as verifiers see it: a real socket with a key set, and what signs."""

import base64
import time
from types import TracebackType
from typing import Any, Self

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mana_actors.http.server import RunningServer, serve
from supervisor.gateway.people.tokens import PATH

Json = dict[str, Any]


def jwk_of(key: Ed25519PrivateKey, kid: str | None, **more: Any) -> Json:
    """The public half, as RFC 8037 writes it."""
    x = base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).decode().rstrip("=")
    named = {} if kid is None else {"kid": kid}
    return {"kty": "OKP", "crv": "Ed25519", "x": x, **named, **more}


class FakeAuth:
    """Use as an async context manager; `keys` is what it publishes, `asked` counts requests."""

    def __init__(self) -> None:
        self.signing = {"k1": Ed25519PrivateKey.generate()}
        self.keys: list[Json] = [jwk_of(self.signing["k1"], "k1")]
        self.raw: bytes | None = None  # in place of the key set
        self.status = 200
        self.asked = 0
        self._serving: RunningServer | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """The address to give to a verifier; stays the same over restarts."""
        return f"http://127.0.0.1:{self._port}"

    def rotate(self, kid: str) -> None:
        """Sign with a new key from now on, and publish both."""
        key = self.signing[kid] = Ed25519PrivateKey.generate()
        self.keys.append(jwk_of(key, kid))

    def claims(self, user: str, **changed: Any) -> Json:
        """What a token says; None leaves a claim out."""
        now = int(time.time())
        whole: Json = {"sub": user, "iss": self.url, "aud": "mana", "iat": now, "exp": now + 900}
        return {name: value for name, value in {**whole, **changed}.items() if value is not None}

    def token(self, user: str, kid: str = "k1", **changed: Any) -> str:
        """A token as this service issues it, but for what is changed."""
        headers = {"kid": kid}
        return jwt.encode(self.claims(user, **changed), self.signing[kid], "EdDSA", headers)

    async def stop(self) -> None:
        """Refuse connections."""
        assert self._serving is not None
        await self._serving.stop()
        self._serving = None

    async def start(self) -> None:
        """Listen, on the port of before."""
        app = Starlette(routes=[Route(PATH, self._answer)])
        self._serving = await serve(app, "127.0.0.1", self._port)
        self._port = self._serving.port

    async def _answer(self, _: Request) -> Response:
        self.asked += 1
        body = msgspec.json.encode({"keys": self.keys}) if self.raw is None else self.raw
        return Response(body, self.status, media_type="application/json")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._serving is not None:
            await self.stop()
