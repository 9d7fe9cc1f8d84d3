"""HTTP as sent, without the leniency by which two readers of one message may differ.

h11 undoes what other programs send: folded lines, bare line feeds, two kinds of length. Whoever
stands in front of us may read those differently, and what it takes for a body be our next request.
"""

from __future__ import annotations

import re

import h11

_HEAD_END = re.compile(rb"\n\r?\n")
_NOT_CRLF = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_FOLDED = re.compile(rb"\n[ \t]")


class StrictConnection(h11.Connection):
    """The server's side of a connection; `refusal` says what was wrong with the last request."""

    refusal: tuple[int, str] = (400, "this is not HTTP")

    def next_event(self) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        """As h11, and raises RemoteProtocolError for what might be read in two ways."""
        if self.their_state is h11.IDLE:
            held = self.trailing_data[0]
            if end := _HEAD_END.search(held):
                head = held[: end.end()]
                if _NOT_CRLF.search(head):
                    self._refuse("a line must end with CR and LF, and hold neither elsewhere")
                if _FOLDED.search(head):
                    self._refuse("a header must not be folded over lines")
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as exc:
            if exc.error_status_hint == 431:
                self.refusal = (431, "the request's head is too long")
            elif exc.error_status_hint == 501:
                self.refusal = (501, "of transfer encodings only chunked is known")
            raise
        if isinstance(event, h11.Request):
            if event.http_version not in (b"1.0", b"1.1"):
                self._refuse("HTTP/1.0 and HTTP/1.1 are spoken here", 505)
            names = {name for name, _ in event.headers}
            if b"transfer-encoding" in names:
                if b"content-length" in names:
                    self._refuse("Content-Length and Transfer-Encoding exclude each other")
                if event.http_version < b"1.1":
                    self._refuse("Transfer-Encoding needs HTTP/1.1")
        return event

    def _refuse(self, problem: str, status: int = 400) -> None:
        self.refusal = (status, problem)
        raise h11.RemoteProtocolError(problem)
