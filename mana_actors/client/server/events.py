"""Server-sent events, read as they come. Pure."""

from __future__ import annotations

import msgspec

MAX_EVENT_BYTES = 64 * 1024 * 1024


class ServerEvent(msgspec.Struct, frozen=True):
    """One event; `id` is where to go on from, "" where it does not say."""

    kind: str
    data: bytes
    id: str


class EventsUnreadable(Exception):
    """An event without end."""


class EventReader:
    """Takes bytes as they come, and gives whole events; raises EventsUnreadable."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._kind, self._id, self._data = "message", "", list[bytes]()

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that end in this chunk."""
        self._rest += chunk
        if b"\n" not in chunk:
            if len(self._rest) > MAX_EVENT_BYTES:
                raise EventsUnreadable
            return []
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        events: list[ServerEvent] = []
        for line in lines:
            name, _, value = line.rstrip(b"\r").partition(b":")
            value = value.removeprefix(b" ")
            match name:
                case b"" if not value:
                    if self._data:
                        data = b"\n".join(self._data)
                        events.append(ServerEvent(self._kind, data, self._id))
                    self._kind, self._id, self._data = "message", "", []
                case b"event":
                    self._kind = value.decode("utf-8", "replace")
                case b"id":
                    self._id = value.decode("utf-8", "replace")
                case b"data":
                    self._data.append(value)
                case _:
                    pass  # a comment, or nothing of ours
        if sum(map(len, self._data)) > MAX_EVENT_BYTES:
            raise EventsUnreadable
        return events
