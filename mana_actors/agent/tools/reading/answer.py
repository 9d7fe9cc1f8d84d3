"""What a reading tool asks and answers: plain values, without IO."""

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from mana_actors.agent.tools.reading.records import Records
from mana_actors.agent.tools.reading.values import number
from mana_actors.json_values import JsonObject

MOST_LISTED = 100
NOTHING = "Nothing was found among the records that this run may read."


class Question(msgspec.Struct, frozen=True):
    """A checked call's arguments, with the owner's day and zone as pinned for the run."""

    arguments: JsonObject
    today: date
    zone: ZoneInfo

    def text(self, name: str, default: str = "") -> str:
        """A text argument."""
        return str(self.arguments.get(name, default))

    def limit(self, default: int) -> int:
        """How many to list: 1 to 100."""
        wanted = number(self.arguments.get("limit", default))
        return default if wanted is None else max(1, min(MOST_LISTED, int(wanted)))


class Answer(msgspec.Struct, frozen=True):
    """A sentence of ours, the data, and the ids of the records in it; `ok` false = no such record.

    The data of a list is a list, so that it can be shortened from its end.
    """

    message: str
    data: Any = None
    ids: tuple[str, ...] = ()
    ok: bool = True


Reader = Callable[[Records, Question], Answer]


def listed(items: Sequence[JsonObject], limit: int, records: Records) -> Answer:
    """The first `limit` of these, and how many there are."""
    first = items[:limit]
    rest = f", {records.left_out} more were too many or too large to read"
    message = f"{len(first)} of {len(items)} found{rest if records.left_out else ''}."
    if not items:
        message = NOTHING
    return Answer(message, list(first), tuple(item["id"] for item in first))
