"""All that crosses the key holder's socket: one request, one reply, each a length and msgpack."""

from __future__ import annotations

import asyncio
import uuid
from typing import Literal

import msgspec

from mana_actors.errors import TerminalError
from state.rules.exposure import Exposure

MAX_REQUEST_BYTES = 16 * 1024
MAX_REPLY_BYTES = 2 * 1024 * 1024
_LENGTH_BYTES = 4

RefusedBecause = Literal[
    "bad-request",
    "busy",
    "capability-invalid",
    "expired",
    "malformed",
    "no-grant",
    "not-configured",
    "other-mission",
    "run-not-live",
    "too-many",
    "unavailable",
    "wrap-rejected",
]
"""Why no key left; those of crypto §4 mean what they mean there."""

PASSING: frozenset[RefusedBecause] = frozenset({"busy", "unavailable"})
"""Refusals that may be over in a moment."""


class AskForKey(msgspec.Struct, frozen=True, tag="ask_for_key"):
    """A run asks for its mission's data key, sealed to a public key (X25519) made for this."""

    capability: str
    run_id: uuid.UUID
    attempt: int
    mission_id: str
    public_key: bytes


class AskForCounts(msgspec.Struct, frozen=True, tag="ask_for_counts"):
    """How many requests ended how, since the process started."""


class KeyReleased(msgspec.Struct, frozen=True, tag="key_released"):
    """The data key, for the asker's ephemeral key alone, and what the grant covers.

    `exposure` is None in a v1 grant; `expires_at` and `released_at` are ns of the database's clock.
    """

    sealed_key: bytes
    release_id: uuid.UUID
    tables: tuple[str, ...]
    record_ids: tuple[str, ...]
    exposure: Exposure | None
    expires_at: int
    released_at: int


class KeyRefused(msgspec.Struct, frozen=True, tag="key_refused"):
    """No key, and why."""

    reason: RefusedBecause


class Counts(msgspec.Struct, frozen=True, tag="counts"):
    """Requests by outcome: `released`, or the reason of the refusal."""

    by_outcome: dict[str, int]


Request = AskForKey | AskForCounts
Reply = KeyReleased | KeyRefused | Counts

encode = msgspec.msgpack.Encoder().encode
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


class MessageUnreadable(TerminalError):
    """Bytes that are no message of this protocol, or too many of them."""


def decode_request(raw: bytes) -> Request:
    """The request; raises MessageUnreadable."""
    try:
        return _requests.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        raise MessageUnreadable from None  # it would quote what was sent


def decode_reply(raw: bytes) -> Reply:
    """The reply; raises MessageUnreadable."""
    try:
        return _replies.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        raise MessageUnreadable from None


async def read_frame(reader: asyncio.StreamReader, limit: int) -> bytes:
    """One message of at most `limit` bytes; raises MessageUnreadable, also where it breaks off."""
    try:
        length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
        if length > limit:
            raise MessageUnreadable
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        raise MessageUnreadable from None


def frame(message: Request | Reply) -> bytes:
    """A message as it crosses the socket."""
    raw = encode(message)
    return len(raw).to_bytes(_LENGTH_BYTES, "big") + raw
