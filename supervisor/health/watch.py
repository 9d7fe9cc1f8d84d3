"""Looks for signs of life all the time, each part by itself, and knows what it found last.

Whoever asks gets what is known already: an answer costs nothing, waits for nothing that hangs, and
comes at once while the gateway's own loop is busy.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from math import inf
from typing import Any, Protocol

import httpx2
import msgspec

from mana_actors.clients.answers import AnswerUnreadable, bounded_answer
from mana_actors.keys.client import KeyHolder, KeyHolderUnreachable
from mana_actors.logs import keep_texts_out, without_text
from mana_actors.trust import trust_for
from state.errors import StateError
from state.store.connect import Unavailable
from state.store.gateway.fleet import FleetStore
from state.troubles import trouble_of
from supervisor.health.judgement import (
    CLOCK_S,
    START_S,
    Blocker,
    Facts,
    FleetHealth,
    KeyDoor,
    health,
)
from supervisor.health.last_hour import HourTold, LastHour
from supervisor.health.ray_life import RayLife
from supervisor.health.room import RoomWatch
from supervisor.node.models import router_url
from supervisor.node.settings import Settings

log = logging.getLogger("mana.health")

EVERY_S = 1.5
WITHIN_S = 2.5
"""A look and the next one together stay below the 5 s in which everything is to be known."""
STATEMENT_MS = 2000
CLOCK_TOLD_S = 600.0

Found = Mapping[str, Any]
"""Fields of `Facts` and what was found for them."""


class SupervisorStatus(Protocol):
    """What the watch asks of the supervisor; it may raise anything."""

    async def status(self) -> dict[str, Any]: ...


class Watch:
    """What is known of everything that a node needs; `look` looks once, `start` for ever.

    `wall` is the time of day in seconds, `clock` one that nobody sets.
    """

    def __init__(
        self,
        *,
        fleet: FleetStore,
        supervisor: SupervisorStatus,
        settings: Settings,
        version: str,
        rooms: RoomWatch,
        ray: RayLife | None = None,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fleet, self._supervisor = fleet, supervisor
        self._settings, self._version = settings, version
        self._rooms, self._ray = rooms, ray
        self._wall, self._clock = wall, clock
        self._facts = Facts()
        self._parts: dict[str, Callable[[], Awaitable[Found]]] = {
            "rooms": self._look_at_rooms,
            "database": self._look_at_database,
            "supervisor": self._look_at_supervisor,
            "ray": self._look_at_ray,
            "router": self._look_at_router,
            "keys": self._look_at_keys,
            "clock": self._look_at_clock,
        }
        self._looked_at = dict.fromkeys(self._parts, -inf)
        self._told: frozenset[str] = frozenset()
        self._asking: asyncio.Task[Found] | None = None  # the database, which may hang
        self._offset: float | None = None  # of the time of day against a clock that nobody sets
        self._jump = (0.0, -inf)  # seconds, and when it was seen
        self._skew_s = 0.0
        self._hour = LastHour()

    def last_hour(self) -> HourTold:
        """What happened in it, as far as it was watched."""
        return self._hour.told()

    async def facts(self) -> Facts:
        """What was found last, and how long ago the oldest of it."""
        return self._known()

    async def health(self) -> FleetHealth:
        """What that means."""
        return health(await self.facts(), self._settings, self._version)

    def start(self) -> None:
        """Look for ever, in a thread and a loop of its own."""
        threading.Thread(target=asyncio.run, args=(self.run(),), name="health", daemon=True).start()

    async def run(self) -> None:
        """Look for ever: a part that hangs holds up no other."""
        keep_texts_out(asyncio.get_running_loop())
        await asyncio.gather(*(self._repeat(part) for part in self._parts))

    async def look(self) -> None:
        """Look at every part once."""
        await asyncio.gather(*(self._look_at(part) for part in self._parts))

    async def _repeat(self, part: str) -> None:
        while True:
            try:
                await self._look_at(part)
            except Exception as exc:  # one bad look ends no watch; `unlooked_s` tells of many
                log.exception(
                    "look_broken part=%s error=%s",
                    part,
                    type(exc).__name__,
                    exc_info=without_text(exc),
                )
            await asyncio.sleep(EVERY_S)

    async def _look_at(self, part: str) -> None:
        found = await self._parts[part]()
        self._facts = msgspec.structs.replace(self._facts, **found)
        self._looked_at[part] = self._clock()
        judged = health(self._known(), self._settings, self._version)
        if part == "supervisor":
            totals = (self._facts.supervisor or {}).get("totals")
            self._hour.note(self._wall(), totals, judged.content["fold"]["lag_s"])
        failing = frozenset(judged.public["failing"])
        for lost in failing - self._told:
            log.warning("health_lost part=%s", lost)
        for regained in self._told - failing:
            log.info("health_regained part=%s", regained)
        self._told = failing

    def _known(self) -> Facts:
        since = min(self._looked_at.values())
        return msgspec.structs.replace(self._facts, unlooked_s=max(0.0, self._clock() - since))

    async def _look_at_rooms(self) -> Found:
        short = await self._rooms.look()
        return {"rooms": self._rooms.rooms, "short": short, "silent_disk_s": self._rooms.silent_s}

    async def _look_at_database(self) -> Found:
        """One question at a time: where it hangs, nobody asks again meanwhile."""
        asking = self._asking = self._asking or asyncio.create_task(self._asked_database())
        done, _ = await asyncio.wait([asking], timeout=WITHIN_S)
        trouble = trouble_of(Unavailable("TimeoutError"))
        if done:
            if self._asking is asking:  # else another look has begun the next one
                self._asking = None
            try:
                return asking.result()
            except StateError as exc:
                trouble = trouble_of(exc)
        return {"shards": None, "database": trouble, "blockers": (), "overdue": 0, "failed": 0}

    async def _asked_database(self) -> Found:
        shards = await self._fleet.shards()
        signs = await self._fleet.signs(START_S)
        for shard in shards[:1]:
            skew_s = self._wall() - shard.now.timestamp()
            self._skew_s = skew_s if abs(skew_s) > CLOCK_S else 0.0
        return {
            "shards": shards,
            "database": None,
            "is_read_only": signs.is_read_only,
            "overdue": signs.overdue,
            "failed": signs.failed,
            "blockers": [
                Blocker(one.pid, one.login, one.waited_s) for one in await self._fleet.blockers()
            ],
        }

    async def _look_at_supervisor(self) -> Found:
        try:
            return {"supervisor": await asyncio.wait_for(self._supervisor.status(), WITHIN_S)}
        except Exception as exc:  # noqa: BLE001 - an actor's death takes many shapes
            log.info("supervisor_silent error=%s", type(exc).__name__)
            return {"supervisor": None}

    async def _look_at_ray(self) -> Found:
        return {"ray": {} if self._ray is None else await self._ray.look()}

    async def _look_at_router(self) -> Found:
        if not self._settings.llm_port:
            return {"router": None}
        url = router_url(self._settings)
        try:
            async with httpx2.AsyncClient(verify=trust_for(url), trust_env=False) as http:
                told = await bounded_answer(http, "GET", f"{url}/health", within_s=WITHIN_S)
        except AnswerUnreadable as exc:
            return {"router": exc.reason}
        return {"router": None if told.is_success else f"HTTP {told.status_code}"}

    async def _look_at_keys(self) -> Found:
        """Asked only where somebody may need a key."""
        if not (self._facts.supervisor or {}).get("has_grants"):
            return {"keys": None}
        address = None if self._settings.runs_key_holder else self._settings.key_address
        holder = KeyHolder(address or str(self._settings.key_socket), timeout_s=WITHIN_S)
        try:
            return {"keys": KeyDoor(await holder.keys())}
        except KeyHolderUnreachable as exc:
            return {"keys": KeyDoor(silent=exc.why)}

    async def _look_at_clock(self) -> Found:
        now = self._clock()
        offset = self._wall() - now
        if self._offset is not None and abs(offset - self._offset) > CLOCK_S:
            self._jump = offset - self._offset, now
        self._offset = offset
        jump_s, at = self._jump
        return {"clock_jump_s": jump_s if now - at < CLOCK_TOLD_S else self._skew_s}
