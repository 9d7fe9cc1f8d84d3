"""Handlers of the reading tools: look, choose, fence, and remember which ids were shown."""

import itertools
from datetime import date
from typing import Any, cast
from zoneinfo import ZoneInfo

import msgspec

from mana_actors.agent.planner.exchange import ToolCall, ToolResult
from mana_actors.agent.planner.fences import fence
from mana_actors.agent.tools.executor import Handler
from mana_actors.agent.tools.injection_watch import InjectionWatch
from mana_actors.agent.tools.reading.answer import Answer, Question
from mana_actors.agent.tools.reading.readers import READERS
from mana_actors.agent.tools.reading.records import Tables
from mana_actors.agent.tools.seen_ids import SeenIds
from state.log.tables import READ_TABLES

MAX_DATA_CHARS = 16_000
FIRST_NUMBER = 1001  # of a fence around a reading; those of the prompt count from 1


class ReadingTools:
    """The reading tools of one run; its numbers, and so its results, are the same each attempt."""

    def __init__(
        self,
        tables: Tables,
        seen: SeenIds,
        watch: InjectionWatch,
        *,
        boundary: str,
        today: date,
        zone: ZoneInfo,
    ) -> None:
        self._tables, self._seen, self._watch = tables, seen, watch
        self._boundary, self._today, self._zone = boundary, today, zone
        self._numbers = itertools.count(FIRST_NUMBER)

    def handlers(self) -> dict[str, Handler]:
        """This object as the handler of every reading tool."""
        return dict.fromkeys(READERS, self)

    async def __call__(self, call: ToolCall, _round: int) -> ToolResult:
        """What the tool tells of its table, in a fence; ids that were cut off stay unknown."""
        number = next(self._numbers)  # before the first await, so in the order of the calls
        of = READ_TABLES[call.name]
        records = await self._tables.records(of.app, of.table)
        answer = READERS[call.name](records, Question(call.arguments, self._today, self._zone))
        if not answer.ok:
            return ToolResult(False, answer.message)
        text, answer = fitting(answer)
        self._seen.add(answer.ids)
        warning = self._watch.look("result", call.name, answer.data)
        source = f"{of.module}/{of.table}"
        data = fence(text, number=number, source=source, boundary=self._boundary)
        return ToolResult(True, f"{answer.message} {warning}".strip(), data)


def fitting(answer: Answer) -> tuple[str, Answer]:
    """The data as JSON text of bounded size, and the answer with the ids that are still in it."""
    data: object = answer.data
    text = _json(data)
    if len(text) <= MAX_DATA_CHARS or not isinstance(data, list):
        return text[:MAX_DATA_CHARS], answer
    items = cast("list[Any]", data)
    sizes = itertools.accumulate(len(_json(item)) + 1 for item in items)
    kept = sum(size < MAX_DATA_CHARS for size in sizes)
    message = f"{answer.message} The first {kept} are shown, ask for fewer."
    shorter = Answer(message, items[:kept], answer.ids[:kept])
    return _json(shorter.data), shorter


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
