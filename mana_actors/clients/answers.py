"""What another service answers, read within bounds: so many bytes unpacked, so long, packed once.

A thousand bytes of gzip may unpack to gigabytes, one encoding may hide another, and a service that
drips a byte a second keeps every timeout of a single read content. So no encoding is asked for, one
is undone up to the bound, and one deadline covers everything.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import httpx2

MAX_ANSWER_BYTES = 4 * 1024 * 1024
PLAIN = {"accept-encoding": "identity"}
_PACKED = ("gzip", "x-gzip", "deflate")
_EITHER_HEADER = 47  # zlib finds out by itself whether it is gzip's or its own


class AnswerUnreadable(Exception):
    """No answer that can be used; `reason` is a word of ours and holds nothing of the answer."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class BoundedAnswer(msgspec.Struct, frozen=True):
    """An answer as it came, its body whole; names of headers are in lower case."""

    status_code: int
    content: bytes
    headers: dict[str, str]

    @property
    def is_success(self) -> bool:
        """Whether the service did what was asked."""
        return 200 <= self.status_code < 300


async def bounded_answer(
    client: httpx2.AsyncClient,
    verb: str,
    url: str,
    *,
    within_s: float,
    max_bytes: int = MAX_ANSWER_BYTES,
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
) -> BoundedAnswer:
    """What the service says, good or bad; raises AnswerUnreadable.

    `within_s` seconds cover everything from connecting to the last byte. Redirects are answers.
    """
    import httpx2  # noqa: PLC0415 - an agent pays for it only once it plans

    sent = {**(headers or {}), **PLAIN}
    try:
        async with (
            asyncio.timeout(within_s),
            client.stream(
                verb, url, headers=sent, content=content, follow_redirects=False, timeout=None
            ) as answer,
        ):
            encoding = answer.headers.get("content-encoding", "identity").strip().lower()
            if encoding not in ("identity", *_PACKED):
                raise AnswerUnreadable("encoded")
            unpacker = zlib.decompressobj(_EITHER_HEADER) if encoding in _PACKED else None
            body, came = bytearray(), 0
            async for chunk in answer.aiter_raw():
                came += len(chunk)  # counted too: packed bytes may unpack to nothing for ever
                room = max_bytes + 1 - len(body)
                body += chunk if unpacker is None else unpacker.decompress(chunk, room)
                if max(len(body), came) > max_bytes:
                    raise AnswerUnreadable("too_large")
            if unpacker is not None and (not unpacker.eof or unpacker.unused_data):
                raise AnswerUnreadable("encoded")
            return BoundedAnswer(answer.status_code, bytes(body), dict(answer.headers))
    except zlib.error:
        raise AnswerUnreadable("encoded") from None
    except TimeoutError:
        raise AnswerUnreadable("timeout") from None
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, UnicodeError) as exc:
        raise AnswerUnreadable(type(exc).__name__) from None
