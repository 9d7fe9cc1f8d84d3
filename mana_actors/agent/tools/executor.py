"""Carries out the calls of a run that were accepted: by a handler, or as a recorded proposal."""

import logging
from collections.abc import Awaitable, Callable, Mapping

from msgspec.structs import replace

from mana_actors.agent.planner.exchange import ToolCall, ToolResult
from mana_actors.agent.tools.injection_watch import InjectionWatch
from mana_actors.agent.tools.validation import RECORDED

log = logging.getLogger("mana.tools")

Handler = Callable[[ToolCall, int], Awaitable[ToolResult]]
"""(checked call, round) → its result."""

BROKEN = ToolResult(False, "The tool failed. Go on without it.")


class Executor:
    """One handler per tool that is carried out in the run; every other call is a proposal.

    `before` comes before each handler: what it raises ends the run.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        watch: InjectionWatch | None = None,
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._handlers = dict(handlers)
        self._watch, self._before = watch, before

    @property
    def names(self) -> frozenset[str]:
        """The tools that are carried out here."""
        return frozenset(self._handlers)

    def register(self, name: str, handler: Handler) -> None:
        """Carry out `name` as well; raises KeyError where it has a handler."""
        if name in self._handlers:
            raise KeyError(name)
        self._handlers[name] = handler

    async def __call__(self, call: ToolCall, round_: int) -> ToolResult:
        """The result of a call that was checked before; raises only what `before` raises."""
        warning = self._watch.look("arguments", call.name, call.arguments) if self._watch else ""
        handler, result = self._handlers.get(call.name), RECORDED
        if handler is not None:
            if self._before is not None:
                await self._before()
            try:
                result = await handler(call, round_)
            except Exception as exc:  # noqa: BLE001 - one tool's failure must not end the run
                log.warning("tool_failed tool=%s error=%s", call.name, type(exc).__name__)
                result = BROKEN
        return replace(result, message=f"{result.message} {warning}") if warning else result
