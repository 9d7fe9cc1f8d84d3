"""How an agent asks for its mission's data key, which it holds for one `with` and no longer.

KeyHolderUnreachable     no answer, one that makes no sense, or the key holder is busy: try again
KeyWithheld              there is no usable grant: the run goes on without these records
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import msgspec

from mana_actors.keys.key_files import KeyFileInvalid
from mana_actors.keys.protocol import (
    MAX_REPLY_BYTES,
    PASSING,
    AskForCounts,
    AskForKey,
    Binding,
    Ephemeral,
    KeyRefused,
    KeyReleased,
    MessageUnreadable,
    OutcomeCounts,
    Reply,
    Request,
    decode_reply,
    frame,
    read_frame,
)
from mana_actors.keys.tls import TlsAddress, client_context, why
from state.errors import TerminalError, TransientError
from state.rules.exposure import Exposure
from state.runs.reasons import told
from state.sealing.values import DataKey

log = logging.getLogger("mana.keys")

_SHUTDOWN_S = 1.0


class KeyHolderUnreachable(TransientError):
    """No answer that can be used; `why` is a short code."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return told("key-holder-silent", trouble=self.why)


class KeyWithheld(TerminalError):
    """The key holder refused; `reason` is one of `protocol.RefusedBecause`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"no key: {self.reason}"


class HeldKey(msgspec.Struct, frozen=True):
    """A mission's data key and what it may open; wiped when its block ends.

    `release_id` goes into the audit. `exposure` is None in a v1 grant. `expires_at` and `now` are
    ns by the database's clock, which judged the grant; ours may be wrong.
    """

    key: DataKey
    release_id: uuid.UUID
    tables: tuple[str, ...]
    record_ids: frozenset[str]
    exposure: Exposure | None
    expires_at: int
    now: Callable[[], int]

    @property
    def is_expired(self) -> bool:
        """Whether the grant has ended since the key was released (equal is still valid)."""
        return self.now() > self.expires_at


class KeyHolder:
    """The key holder, behind a Unix socket on this machine or by TLS on another.

    `clock` counts ns. `has_released` is true once a key came to this process.
    """

    def __init__(
        self,
        address: str | TlsAddress,
        *,
        timeout_s: float = 10.0,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._clock = clock
        self.has_released = False

    @asynccontextmanager
    async def data_key(
        self, capability: str, run_id: uuid.UUID, attempt: int, mission_id: str
    ) -> AsyncGenerator[HeldKey]:
        """The current grant's key for this live run; raises KeyWithheld or KeyHolderUnreachable.

        `capability` is one of audience `keys`.
        """
        ephemeral = Ephemeral()
        ask = AskForKey(capability, run_id, attempt, mission_id, ephemeral.public_key)
        asked_at = self._clock()
        match await self._asked(ask):
            case KeyReleased() as released:
                pass
            case KeyRefused(reason) if reason in PASSING:
                raise KeyHolderUnreachable(reason)
            case KeyRefused(reason):
                raise KeyWithheld(reason)
            case _:
                raise KeyHolderUnreachable("unexpected-reply")
        self.has_released = True
        binding = Binding(run_id, attempt, mission_id, released.release_id)
        try:
            opened = ephemeral.opened(released.sealed_key, binding)
        except ValueError:
            raise KeyHolderUnreachable("unreadable-reply") from None
        with opened as key:
            yield HeldKey(
                key=key,
                release_id=released.release_id,
                tables=released.tables,
                record_ids=frozenset(released.record_ids),
                exposure=released.exposure,
                expires_at=released.expires_at,
                now=lambda: released.released_at + self._clock() - asked_at,
            )

    async def counts(self) -> dict[str, int]:
        """Requests by outcome since it started; raises KeyHolderUnreachable."""
        return (await self._counted()).by_outcome

    async def keys(self) -> int | None:
        """How many private keys it has, None where it cannot say; raises KeyHolderUnreachable."""
        return (await self._counted()).keys

    async def _counted(self) -> OutcomeCounts:
        reply = await self._asked(AskForCounts())
        if not isinstance(reply, OutcomeCounts):
            raise KeyHolderUnreachable("unexpected-reply")
        return reply

    async def _asked(self, request: Request) -> Reply:
        """The reply on a connection of its own; every failure is a KeyHolderUnreachable."""
        try:
            async with asyncio.timeout(self._timeout_s):
                if isinstance(self._address, str):
                    reader, writer = await asyncio.open_unix_connection(self._address)
                else:
                    reader, writer = await asyncio.open_connection(
                        self._address.host,
                        self._address.port,
                        ssl=client_context(self._address.files),  # read anew: keys may rotate
                        server_hostname=self._address.host,
                        ssl_shutdown_timeout=_SHUTDOWN_S,
                    )
                try:
                    writer.write(frame(request))
                    return decode_reply(await read_frame(reader, MAX_REPLY_BYTES))
                finally:
                    writer.close()
        except TimeoutError:
            raise KeyHolderUnreachable("timeout") from None
        except MessageUnreadable:
            raise KeyHolderUnreachable("unreadable-reply") from None
        except KeyFileInvalid as exc:
            log.warning("key_certificates_unusable %s", exc)
            raise KeyHolderUnreachable("certificates-unusable") from None
        except OSError as exc:
            raise KeyHolderUnreachable(why(exc)) from None
