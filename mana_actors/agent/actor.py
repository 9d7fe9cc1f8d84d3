"""One (user, agent) in a process of its own.

A process starts unbound, waits in the warm pool, and is bound once, for good. It ends when it is
told to sleep, or when it has no run and has heard no supervisor of the current epoch for two
minutes. Once it has held decrypted text it ends soon after its last run, because Python cannot
wipe memory. It is never restarted: its work is in Postgres, and another process takes it over.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import assert_never

import msgspec

from mana_actors.agent.attempt.lease import Capability, LeaseKeeper
from mana_actors.agent.attempt.run import Runner
from mana_actors.agent.footprint import Footprint
from mana_actors.agent.inputs.resolvers import Resolver, default_resolvers
from mana_actors.crash import CrashPoint, crash_points, keep_to_ourselves
from mana_actors.fork_server.fork import is_fork
from mana_actors.llm.client import HttpProvider
from mana_actors.llm.provider import ModelProvider
from mana_actors.logs import belongs_to, keep_texts_out, log_to_folder
from mana_actors.messages import (
    AgentMessage,
    AgentSettings,
    Ask,
    Bind,
    Changed,
    GiveBack,
    Hello,
    Identity,
    Order,
    Orders,
    Report,
    Sleep,
    Stop,
    decode_for_agent,
    encode,
)
from mana_actors.processes import Host
from state.errors import StateError
from state.runs.outcome import Broken
from state.store.agent import AgentStore
from state.store.connect import Access, Database

log = logging.getLogger("mana.agent")

_WATCH_EVERY_S = 5.0

AFTER_SECRETS_S = 30.0
"""Decrypted text stays in freed memory until the process ends; this long at most after its run.

Its supervisor puts it to sleep as soon as it hears of the run's end; this is for one that is away.
"""


def why_end(
    *, idle_s: float, unheard_s: float, held_a_key: bool, heard_timeout_s: float
) -> str | None:
    """Why a process that runs nothing ends by itself now; None: it stays."""
    if held_a_key and idle_s > AFTER_SECRETS_S:
        return "it decrypted something and its run is over"
    return "nobody asks for it" if unheard_s > heard_timeout_s else None


class _Bound(msgspec.Struct):
    """What a process holds once it is somebody's."""

    bind: Bind
    capability: Capability
    runner: Runner


def http_provider(settings: AgentSettings) -> HttpProvider:
    """The model server that the settings name."""
    key_file = Path(settings.model_key_file) if settings.model_key_file else None
    return HttpProvider(settings.model_url, key_file=key_file)


def new_runner(
    bind: Bind,
    holder: str,
    capability: Capability,
    *,
    provider: Callable[[AgentSettings], ModelProvider] = http_provider,
    resolvers: Mapping[str, Resolver] | None = None,
    crash: CrashPoint | None = None,
) -> Runner:
    """What runs the bound agent's missions; it connects to nothing before its first use."""
    settings = bind.settings
    application = f"mana-agent {holder}"
    access = Access(settings.dsn, settings.role, settings.password_file, application)
    user_id, agent_id = bind.user_id, bind.agent_id
    return Runner(
        user_id=user_id,
        agent_id=agent_id,
        holder=holder,
        store=AgentStore(
            Database(access, max_connections=2, idle_s=2.0, slots=settings.slots, plans_once=True),
            user_id,
            agent_id,
            capability,
        ),
        provider=provider(settings),
        settings=settings,
        leases=LeaseKeeper(
            lambda: Database(access, max_connections=1),
            user_id,
            agent_id,
            capability,
            settings.lease_ms,
        ),
        resolvers=default_resolvers() if resolvers is None else resolvers,
        crash=crash or crash_points(settings.crash_at),
    )


class AgentActor:
    """The Ray shell: decode, decide who we are, run orders, report."""

    def __init__(
        self,
        name: str,
        release: str,
        host: Host,
        new_runner: Callable[[Bind, str, Capability], Runner] = new_runner,
    ) -> None:
        keep_to_ourselves()
        log_to_folder("agents")
        self._name, self._release = name, release
        self._host, self._new_runner = host, new_runner
        self._footprint = Footprint()
        self._is_ending = False
        self._bound: _Bound | None = None
        self._running: set[str] = set()
        self._used_at = self._heard_at = time.monotonic()
        self._epoch = 0
        self._is_watched = False

    async def tell(self, *pieces: bytes) -> bytes:
        """Take one message, in one piece or several, and answer who we are.

        If it returns with `accepted`, orders are under way; if it raises, they may or may not be:
        what happened to a mission is in its run row.
        """
        message: AgentMessage = decode_for_agent(b"".join(pieces))
        if message.epoch < self._epoch:
            return encode(self._identity(accepted=False))
        if message.epoch > self._epoch and self._bound is not None:
            # What was told before may have died with its supervisor, between a fold and its routes.
            self._bound.runner.recall.begin_anew()
            self._host.work.start(self._catch_up(self._bound))
        self._epoch, self._heard_at = message.epoch, time.monotonic()
        if not self._is_watched:
            self._is_watched = True
            self._host.work.start(self._end_when_forgotten())
        match message:
            case Bind():
                return encode(self._identity(accepted=self._become(message)))
            case Orders():
                return encode(self._identity(accepted=self._start(message)))
            case Changed():
                if self._bound is not None:
                    self._bound.runner.recall.hear(message)
                    self._host.work.start(self._catch_up(self._bound))
            case Ask():
                shown = self._bound.runner.recall.shown() if self._bound is not None else None
                return encode(msgspec.structs.replace(self._identity(), memory=shown))
            case Stop():
                if self._bound is not None:
                    self._bound.runner.stop(message.mission_id, message.reason, message.run_id)
            case GiveBack():
                if self._bound is not None:
                    self._bound.runner.recall.give_back()
            case Hello():
                if self._bound is not None:
                    self._bound.bind = msgspec.structs.replace(
                        self._bound.bind, supervisor=message.supervisor
                    )
            case Sleep():
                if not self._running:
                    self._is_ending = True  # an order that comes now is refused, given elsewhere
                    log.info("agent_slept process=%s", self._name)
                    # After the reply has left.
                    asyncio.get_running_loop().call_later(0.05, self._host.end)
            case _:
                assert_never(message)
        return encode(self._identity())

    async def until_gone(self) -> None:
        """Never returns: its failure tells the supervisor that this process died."""
        await asyncio.Event().wait()

    def _become(self, message: Bind) -> bool:
        """Compare-and-set without an await in between: two users must never bind one process."""
        if self._bound is not None:
            return False
        keep_texts_out(asyncio.get_running_loop())
        capability = Capability(message.capability)
        runner = self._new_runner(message, self._name, capability)
        self._bound = _Bound(message, capability, runner)
        self._host.work.start(self._catch_up(self._bound))
        belongs_to(f"{message.user_id}/{message.agent_id}")
        log.info(
            "agent_bound agent=%s/%s process=%s", message.user_id, message.agent_id, self._name
        )
        return True

    def _start(self, message: Orders) -> bool:
        bound = self._bound
        if bound is None or self._is_ending:
            return False
        bound.capability.token = message.capability
        self._used_at = time.monotonic()
        for order in message.orders:
            if order.mission_id not in self._running:
                self._running.add(order.mission_id)
                self._host.work.start(self._carry_out(bound, order))
        return True

    async def _carry_out(self, bound: _Bound, order: Order) -> None:
        await self._catch_up(bound)
        try:
            report = await (
                bound.runner.heal(order) if order.kind == "heal" else bound.runner.run(order)
            )
        except Exception as exc:  # noqa: BLE001 - one run's bug must not end the agent's others
            log.error(  # noqa: TRY400 - a trace could hold user text
                "run_broken agent=%s/%s mission=%s error=%s",
                bound.bind.user_id,
                bound.bind.agent_id,
                order.mission_id,
                type(exc).__name__,
            )
            report = Report(
                holder=self._name,
                user_id=bound.bind.user_id,
                agent_id=bound.bind.agent_id,
                mission_id=order.mission_id,
                version=order.version,
                ended=Broken(type(exc).__name__),
            )
        finally:
            self._running.discard(order.mission_id)
            self._used_at = time.monotonic()
        report = msgspec.structs.replace(report, held_a_key=self._held_a_key)
        await self._host.report(bound.bind.supervisor, encode(report))

    async def _catch_up(self, bound: _Bound) -> None:
        try:
            await bound.runner.catch_up()
        except StateError as exc:  # each order reads what it needs
            log.warning("memory_not_read process=%s error=%s", self._name, exc)

    @property
    def _held_a_key(self) -> bool:
        return self._bound is not None and self._bound.runner.held_a_key

    async def _end_when_forgotten(self) -> None:
        try:
            while True:
                await asyncio.sleep(_WATCH_EVERY_S)
                if self._running:
                    continue
                now = time.monotonic()
                settings = self._bound.bind.settings if self._bound else None
                why = why_end(
                    idle_s=now - self._used_at,
                    unheard_s=now - self._heard_at,
                    held_a_key=self._held_a_key,
                    heard_timeout_s=settings.heard_timeout_s if settings else 120.0,
                )
                if why is not None:
                    log.info("agent_ended process=%s reason=%s", self._name, why)
                    self._host.end()
        finally:  # cancelled, where others live on in this process
            if self._bound is not None:
                await self._bound.runner.aclose()

    def _identity(self, *, accepted: bool = True) -> Identity:
        bind = self._bound.bind if self._bound else None
        return Identity(
            name=self._name,
            pid=os.getpid(),
            release=self._release,
            user_id=bind.user_id if bind else None,
            agent_id=bind.agent_id if bind else None,
            epoch=self._epoch,
            running=tuple(self._running),
            idle_s=0.0 if self._running else time.monotonic() - self._used_at,
            memory_bytes=self._footprint.memory_bytes(),
            cpu_s=self._footprint.cpu_s(),
            tokens_24h=self._bound.runner.recall.used if self._bound else None,
            accepted=accepted,
            held_a_key=self._held_a_key,
            is_fork=is_fork(),
        )
