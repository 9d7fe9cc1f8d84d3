"""Agents that all live in this process, for where a cluster would tell nothing more.

The actor is the very class that Ray runs. What is missing is what a process of its own adds: here
`kill` cancels what the agent is doing, and its `finally` blocks run, as after no SIGKILL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from mana_actors.background import Background
from mana_actors.messages import Identity, decode_identity, encode
from mana_actors.processes import AgentProcess, Host, ProcessGone


class Actor(Protocol):
    """An agent's actor as its process holds it."""

    async def tell(self, *pieces: bytes) -> bytes: ...


class LocalProcesses:
    """Makes such agents; `supervisors` are those who take reports, by name."""

    def __init__(self, new_actor: Callable[[str, Host], Actor]) -> None:
        self._new_actor = new_actor
        self.supervisors: dict[str, Callable[[bytes], Awaitable[None]]] = {}
        self._made: list[LocalProcess] = []

    def create(self, name: str) -> AgentProcess:
        made = LocalProcess(name, self)
        made.actor = self._new_actor(name, made)
        self._made.append(made)
        return made

    def existing(self, prefix: str) -> list[AgentProcess]:
        return [one for one in self._made if one.name.startswith(prefix) and not one.has_ended]

    async def aclose(self) -> None:
        """End them all, and wait until nothing of them is left."""
        for process in self._made:
            process.kill()
        await asyncio.gather(*(process.closing for process in self._made))


class LocalProcess:
    """One agent's actor, and the host that it believes to live in alone."""

    actor: Actor
    closing: asyncio.Future[None]

    def __init__(self, name: str, processes: LocalProcesses) -> None:
        self.name, self._processes = name, processes
        self.work = Background()
        self._ended = asyncio.Event()

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    async def tell(self, message: msgspec.Struct, timeout_s: float = 10.0) -> Identity:
        if self.has_ended:
            raise ProcessGone(self.name)
        try:
            raw = await asyncio.wait_for(self.actor.tell(encode(message)), timeout_s)
        except TimeoutError as exc:
            raise ProcessGone(self.name) from exc
        return decode_identity(raw)

    async def gone(self) -> None:
        await self._ended.wait()

    async def report(self, supervisor: str, raw: bytes) -> None:
        """Hand a report over, unless its supervisor is gone."""
        take = self._processes.supervisors.get(supervisor)
        if take is not None:
            await take(raw)

    def kill(self) -> None:
        if not self.has_ended:
            self._ended.set()
            self.closing = asyncio.ensure_future(self.work.cancel())

    end = kill
