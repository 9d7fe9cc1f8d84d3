"""All that crosses the key holder's socket: one request, one reply, each a length and msgpack.

The data key in a reply is sealed to a key pair that the asker made for this one request (HPKE). It
is bound to run, attempt, mission and release, so that no reply fits another request.
"""

# ruff: noqa: PLC0415 - agents load cryptography with their first grant

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Literal

import msgspec

from state.errors import TerminalError
from state.rules.exposure import Exposure
from state.sealing.hpke import hpke_opened, hpke_sealed
from state.sealing.values import DataKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

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
"""Why no key left; four of these are the reasons of `state.grants.grant.Reason`."""

PASSING: frozenset[RefusedBecause] = frozenset({"busy", "unavailable"})
"""Refusals that may be over in a moment; asking again helps."""


class AskForKey(msgspec.Struct, frozen=True, tag="ask_for_key"):
    """A run asks for its mission's data key, sealed to an X25519 key made for this request."""

    capability: str
    run_id: uuid.UUID
    attempt: int
    mission_id: str
    public_key: bytes


class AskForCounts(msgspec.Struct, frozen=True, tag="ask_for_counts"):
    """Asks how many requests ended in which way since the process started."""


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


class OutcomeCounts(msgspec.Struct, frozen=True, tag="counts"):
    """Requests by outcome: `released`, or the reason of the refusal; how many private keys it has.

    `keys` is None of a key holder that is older than the question.
    """

    by_outcome: dict[str, int]
    keys: int | None = None


Request = AskForKey | AskForCounts
Reply = KeyReleased | KeyRefused | OutcomeCounts

encode = msgspec.msgpack.Encoder().encode
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


class MessageUnreadable(TerminalError):
    """Bytes that are not a message of this protocol, or too many of them."""


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


# --- the key on its way to the asker --------------------------------------------------------------


class AskerKeyInvalid(TerminalError):
    """The asker's public key is not one, or is one that everybody can undo."""


class Binding(msgspec.Struct, frozen=True):
    """What a sealed key is for."""

    run_id: uuid.UUID
    attempt: int
    mission_id: str
    release_id: uuid.UUID


class Ephemeral:
    """A key pair for one request: the public half is sent, the private half opens the answer."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        self._private: X25519PrivateKey = X25519PrivateKey.generate()
        self.public_key = self._private.public_key().public_bytes_raw()

    def opened(self, sealed_key: bytes, binding: Binding) -> DataKey:
        """The data key inside; raises ValueError where it was not sealed for this request."""
        from cryptography.exceptions import InvalidTag

        try:
            return DataKey(hpke_opened(sealed_key, self._private, _info(binding)))
        except InvalidTag:
            raise ValueError("not sealed for this request") from None


def sealed_to(public_key: bytes, key: DataKey, binding: Binding) -> bytes:
    """The data key for whoever holds the private half; raises AskerKeyInvalid."""
    try:
        return hpke_sealed(key.material, public_key, _info(binding))
    except ValueError:
        raise AskerKeyInvalid from None


def _info(binding: Binding) -> bytes:
    return b"mana-key-release:1:" + msgspec.json.encode(binding)
