"""What lets a client in: a token that stays, or a sign-in that is renewed."""

from __future__ import annotations

import base64
import binascii
from typing import Protocol

import msgspec

from mana_actors.json_values import as_object, as_text


class Credentials(Protocol):
    """Gives the token to come with."""

    async def token(self, *, refused: str | None = None) -> str | None:
        """The token; `refused` was the last one, and None says that there is no other."""
        ...


class FixedToken:
    """A personal token, or an access token that somebody else renews."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def token(self, *, refused: str | None = None) -> str | None:
        """Always the same."""
        return None if refused == self._token else self._token


def subject_in(token: str) -> str | None:
    """Whose a signed token says it is, not checked: the server does; None for any other token."""
    try:
        _, claims, _ = token.split(".")
        raw = base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))
        told = as_object(msgspec.json.decode(raw))
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        return None
    return as_text(told.get("sub")) or None if told is not None else None
