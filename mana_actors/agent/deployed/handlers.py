"""Handlers of a deployment's tools: a child process per call, its answer fenced as data."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import msgspec

from mana_actors.agent.deployed.process import ToolProcessFailed, ask_child
from mana_actors.agent.planner.exchange import ToolCall, ToolResult
from mana_actors.agent.planner.fences import fence
from mana_actors.agent.tools.catalogue import Tool
from mana_actors.agent.tools.executor import Handler
from mana_actors.agent.tools.injection_watch import InjectionWatch
from mana_actors.agent.tools.seen_ids import MAX_ID_CHARS, SeenIds
from mana_actors.json_values import texts_in
from mana_actors.messages import AgentSettings

FIRST_NUMBER = 2001  # of a fence around an answer
MAX_DATA_CHARS = 16_000


class DeployedTools:
    """The tools of the deployment's file in one run; those that only propose have no handler."""

    def __init__(
        self,
        settings: AgentSettings,
        tools: Iterable[Tool],
        seen: SeenIds,
        watch: InjectionWatch,
        boundary: str,
    ) -> None:
        self._settings, self._tools = settings, {tool.name: tool for tool in tools}
        self._seen, self._watch, self._boundary = seen, watch, boundary
        self._numbers = itertools.count(FIRST_NUMBER)

    def handlers(self) -> dict[str, Handler]:
        """This object as the handler of every tool whose default is `auto`."""
        return {name: self for name, tool in self._tools.items() if tool.default_policy == "auto"}

    async def __call__(self, call: ToolCall, _round: int) -> ToolResult:
        """What a child process answered, in a fence; a failed result where it gave no answer."""
        number, settings = next(self._numbers), self._settings
        assert settings.tools_file is not None
        question = msgspec.json.encode({"name": call.name, "arguments": call.arguments})
        try:
            answer = await ask_child(
                "call",
                settings.tools_file,
                question,
                deadline_s=settings.tool_deadline_s,
                memory_mb=settings.tool_memory_mb,
            )
        except ToolProcessFailed as exc:
            return ToolResult(False, f"{call.name} failed: {exc.reason}.")
        if "data" not in answer:
            return ToolResult(False, f"{call.name} failed.")
        data: object = answer["data"]
        text, message = msgspec.json.encode(data).decode(), "Done."
        if len(text) <= MAX_DATA_CHARS:
            self._seen.add(each for each in texts_in(data) if len(each) <= MAX_ID_CHARS)
        else:
            text, message = text[:MAX_DATA_CHARS], "Done; the answer is cut, it is too long."
        warning = self._watch.look("result", call.name, data)
        source = f"{self._tools[call.name].module}/{call.name}"
        fenced = fence(text, number=number, source=source, boundary=self._boundary)
        return ToolResult(True, f"{message} {warning}".strip(), fenced)
