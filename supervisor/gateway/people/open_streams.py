"""How many event streams people have open."""

import contextlib
from collections.abc import Generator

from mana_actors.http.bodies import BadRequest

MOST_STREAMS, MOST_STREAMS_EACH = 200, 8


class OpenStreams:
    """How many streams each person has open, so that nobody's tabs take what all share."""

    def __init__(self, most: int = MOST_STREAMS, each: int = MOST_STREAMS_EACH) -> None:
        self._most, self._each = most, each
        self._open: dict[str, int] = {}

    def require_place(self, user: str) -> None:
        """Raises BadRequest (429) where no further stream may be opened."""
        is_full = sum(self._open.values()) >= self._most
        if is_full or self._open.get(user, 0) >= self._each:
            raise BadRequest("stream", "too many are open", 429)

    @contextlib.contextmanager
    def one_more(self, user: str) -> Generator[None]:
        """Counts a stream while it is open."""
        self._open[user] = self._open.get(user, 0) + 1
        try:
            yield
        finally:
            self._open[user] -= 1
            if not self._open[user]:
                del self._open[user]
