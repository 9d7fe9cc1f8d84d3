"""What lets a client in: a token that stays, or a sign-in that is renewed."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from mana_actors.client.errors import ServerAway
from mana_actors.clients.answers import AnswerUnreadable, bounded_answer
from mana_actors.json_values import as_object, as_text
from state.secret_files import replace_secret

if TYPE_CHECKING:
    import httpx2

REFRESH = "/api/v1/auth/refresh"
EARLY_S = 30.0
ANSWER_S = 30.0


class Credentials(Protocol):
    """Gives the token to come with."""

    async def token(self, *, refused: str | None = None) -> str | None:
        """The token; `refused` was the last one. None: there is no other. Raises ServerAway."""
        ...


class FixedToken:
    """A personal token, or an access token that somebody else renews."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def token(self, *, refused: str | None = None) -> str | None:
        """Always the same."""
        return None if refused == self._token else self._token


class StoredSignIn(msgspec.Struct, frozen=True):
    """A sign-in at one gateway that is kept in a file; a personal token has no refresh token."""

    url: str
    user: str
    access_token: str
    refresh_token: str | None = None
    renew_at: float | None = None  # seconds of the epoch


class GivenTokens(msgspec.Struct, frozen=True, rename="camel"):
    """What a gateway answers to a link or a refresh token."""

    user: str
    access_token: str
    expires_in: float
    refresh_token: str

    def stored(self, url: str, now_s: float) -> StoredSignIn:
        """The same, to be kept."""
        renew_at = now_s + max(self.expires_in - EARLY_S, 0)
        return StoredSignIn(url, self.user, self.access_token, self.refresh_token, renew_at)


class SignInFile:
    """The sign-in in a file, as `mana sign-in` keeps it; renewed there before it ends.

    Of several processes one renews, and the others find what it got.
    """

    def __init__(self, path: Path, http: httpx2.AsyncClient | None = None) -> None:
        self._path, self._http = path, http

    async def token(self, *, refused: str | None = None) -> str | None:
        """The access token of now; None once the sign-in has ended, or where there is none."""
        with self._path.with_suffix(".lock").open("a") as lock:
            await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
            try:
                stored = msgspec.json.decode(self._path.read_bytes(), type=StoredSignIn)
            except (OSError, msgspec.MsgspecError):
                return None
            is_due = stored.renew_at is not None and time.time() >= stored.renew_at
            if not is_due and stored.access_token != refused:
                return stored.access_token
            if stored.refresh_token is None:
                return None
            given = await self._refreshed(stored.url, stored.refresh_token)
            if given is None:
                return None
            renewed = given.stored(stored.url, time.time())
            replace_secret(self._path, msgspec.json.encode(renewed).decode())
            return renewed.access_token

    async def _refreshed(self, url: str, refresh_token: str) -> GivenTokens | None:
        import httpx2  # noqa: PLC0415 - who works offline does not pay for it

        body = msgspec.json.encode({"refreshToken": refresh_token})
        http = self._http or httpx2.AsyncClient()
        try:
            answered = await bounded_answer(
                http,
                "POST",
                url.rstrip("/") + REFRESH,
                within_s=ANSWER_S,
                headers={"Content-Type": "application/json"},
                content=body,
            )
        except AnswerUnreadable as exc:
            raise ServerAway(exc.reason) from exc
        finally:
            if http is not self._http:
                await http.aclose()
        if answered.status_code == 401:
            return None
        if not answered.is_success:
            raise ServerAway(f"status {answered.status_code}")
        try:
            return msgspec.json.decode(answered.content, type=GivenTokens)
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise ServerAway("not an answer of a sign-in") from exc


def subject_in(token: str) -> str | None:
    """Whose a signed token says it is, not checked: the server does; None for any other token."""
    try:
        _, claims, _ = token.split(".")
        raw = base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))
        told = as_object(msgspec.json.decode(raw))
    except (ValueError, msgspec.MsgspecError):
        return None
    return as_text(told.get("sub")) or None if told is not None else None
