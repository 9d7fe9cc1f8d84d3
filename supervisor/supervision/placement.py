"""Which process is whose: the directory of awake agents and the pool of never-used processes."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable, Iterable

from mana_actors.background import Background
from mana_actors.messages import Bind, Hello, Identity, Sleep
from mana_actors.processes import AgentProcess, AgentProcesses, ProcessGone
from supervisor.node.idle_time import IdleCosts
from supervisor.node.settings import Settings
from supervisor.supervision.dispatch import Pair

log = logging.getLogger("mana.placement")

HELLO_LIMIT_S = 2.0
IDLE_HEARD_S = 10.0
"""An idle process is greeted so long after its last word: each greeting costs it a millisecond."""
SILENT_AFTER = 3
"""So many greetings in a row unanswered, and a process is taken for silent."""
STARTS_AT_ONCE = max(2, os.cpu_count() or 1)
"""Each keeps a core busy, a fork for less long: more at once end later, all of them together."""

MIB = 1024 * 1024
TYPICAL_AGENT_BYTES = 48 * MIB

AWAKE_PER_CORE = 32
"""What a core can feed: at 1.5 CPU-s a run, 32 agents that wait 48 s for their models. Each burns
a hundredth of a core while it does nothing, so all of them together less than a third of it."""


def most_awake(settings: Settings) -> int:
    """How many agents may be awake: the setting, else by this machine's cores."""
    return settings.agents_awake_max or AWAKE_PER_CORE * (os.cpu_count() or 1)


def awake_memory_bytes(settings: Settings) -> int:
    """How much memory awake agents may take together: the setting, else half of this machine's."""
    if settings.agent_memory_mb is not None:
        return settings.agent_memory_mb * MIB
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


class Awake:
    """A process that is bound to an agent."""

    def __init__(self, pair: Pair, process: AgentProcess, identity: Identity) -> None:
        self.pair, self.process = pair, process
        self.used_at = asyncio.get_running_loop().time()
        self.memory_bytes = TYPICAL_AGENT_BYTES
        self.learn(identity)

    def learn(self, identity: Identity) -> None:
        """Note what the process said of itself."""
        self.pid, self.release = identity.pid, identity.release
        self.memory_bytes = identity.memory_bytes or self.memory_bytes
        self.tokens_24h = identity.tokens_24h
        self.held_a_key = identity.held_a_key
        self.is_fork = identity.is_fork
        self.unanswered = 0  # greetings since it last spoke
        self.spoke_at = asyncio.get_running_loop().time()
        self._last = identity, self.used_at

    def idled(self, now: Identity) -> tuple[float, float] | None:
        """CPU-s and seconds since it last spoke, if it had nothing to do in between."""
        last, used_at = self._last
        if last.running or now.running or used_at != self.used_at:
            return None
        return now.cpu_s - last.cpu_s, now.idle_s - last.idle_s


class Placement:
    """Binds, adopts, puts to sleep; `died` hears the name and pair of a process that ended."""

    def __init__(
        self,
        processes: AgentProcesses,
        release: str,
        supervisor: str,
        epoch: int,
        died: Callable[[str, Pair | None], None],
    ) -> None:
        self._processes, self._release = processes, release
        self._supervisor, self._epoch = supervisor, epoch
        self._died = died
        self.awake: dict[Pair, Awake] = {}
        self._warm: list[AgentProcess] = []
        self._making = Background()
        self._waking: dict[Pair, asyncio.Task[Awake]] = {}
        self.watches = Background()
        self._starts = asyncio.Semaphore(STARTS_AT_ONCE)
        self.idle_costs = IdleCosts()

    @property
    def warm(self) -> int:
        """Processes ready to be bound."""
        return len(self._warm)

    @property
    def making(self) -> int:
        """Processes being made."""
        return len(self._making)

    @property
    def is_crowded(self) -> bool:
        """Whether agents wait until others have been started."""
        return len(self._waking) > STARTS_AT_ONCE

    @property
    def memory_bytes(self) -> int:
        """What the awake agents' processes take together, as they last said."""
        return sum(agent.memory_bytes for agent in self.awake.values())

    async def adopt(self) -> list[Identity]:
        """Ask every process who it is; keep those that answer, kill the others; returns the bound.

        A busy process of another release is kept until it is idle, an idle one is ended.
        """
        found = self._processes.existing("agent-")
        identities = await asyncio.gather(*(self._greet(process) for process in found))
        return [
            identity
            for identity in identities
            if identity is not None and identity.user_id is not None
        ]

    async def _greet(self, process: AgentProcess) -> Identity | None:
        try:
            identity = await process.tell(Hello(self._epoch, self._supervisor), HELLO_LIMIT_S)
        except ProcessGone:
            process.kill()
            self._died(process.name, None)
            return None
        if identity.user_id is None or identity.agent_id is None:
            if identity.release == self._release:
                self._warm.append(process)
                self.watches.start(self._watch(process))
            else:
                process.kill()
            return None
        pair = (identity.user_id, identity.agent_id)
        if identity.release != self._release and not identity.running:
            process.kill()
            return None
        if pair in self.awake:
            process.kill()  # bound twice across a split: one is enough, and its claim is fenced
            self._died(process.name, None)
            return None
        self.awake[pair] = Awake(pair, process, identity)
        self.watches.start(self._watch(process))
        return identity

    async def _watch(self, process: AgentProcess) -> None:
        """Hear of the process's death once, whoever it belongs to by then."""
        await process.gone()
        pair = next(
            (p for p, agent in self.awake.items() if agent.process.name == process.name), None
        )
        if pair is not None:
            del self.awake[pair]
        self._warm = [other for other in self._warm if other.name != process.name]
        self._died(process.name, pair)

    async def wake(self, pair: Pair, bind: Callable[[], Bind]) -> tuple[Awake, str]:
        """The agent's process, awake or bound now, and where it came from."""
        agent = self.awake.get(pair)
        if agent is not None:
            return agent, "awake"
        source = "warm" if self._warm else "cold"
        task = self._waking.get(pair)
        if task is None:
            task = self._waking[pair] = asyncio.create_task(self._bind(pair, bind))
            task.add_done_callback(lambda _: self._waking.pop(pair, None))
        return await asyncio.shield(task), source

    async def _bind(self, pair: Pair, bind: Callable[[], Bind]) -> Awake:
        for _ in range(3):
            if self._warm:
                process = self._warm.pop(0)
                identity = await self._told(process, bind)
            else:
                async with self._starts:
                    is_new = not self._warm
                    process = self._created() if is_new else self._warm.pop(0)
                    identity = await self._told(process, bind)
                    if identity is not None and is_new:
                        self.idle_costs.started(identity.cpu_s)
            if identity is None:
                continue
            if identity.accepted and (identity.user_id, identity.agent_id) == pair:
                agent = self.awake[pair] = Awake(pair, process, identity)
                return agent
            process.kill()
        raise ProcessGone(f"agent of {pair[0]}/{pair[1]}")

    async def _told(self, process: AgentProcess, bind: Callable[[], Bind]) -> Identity | None:
        """Its answer to being bound; None, and its end, where it gives none."""
        try:
            return await process.tell(bind(), 60.0)
        except ProcessGone:
            process.kill()
            return None

    def _created(self) -> AgentProcess:
        process = self._processes.create(f"agent-{self._release}-{secrets.token_hex(6)}")
        self.watches.start(self._watch(process))
        return process

    def refill(self, wanted: int, at_once: int = 2) -> None:
        """Make warm processes in the background, few at a time: each keeps a core busy."""
        while self.warm + self.making < wanted and self.making < at_once:
            self._making.start(self._make())

    async def _make(self) -> None:
        process = self._created()
        try:
            identity = await process.tell(Hello(self._epoch, self._supervisor), 60.0)
        except ProcessGone:
            process.kill()
            return
        self.idle_costs.started(identity.cpu_s)
        self._warm.append(process)

    def idle(self, busy: Iterable[Pair]) -> list[Awake]:
        """Awake agents with nothing to do, least recently used first."""
        taken = set(busy) | set(self._waking)
        return sorted(
            (a for p, a in self.awake.items() if p not in taken), key=lambda agent: agent.used_at
        )

    async def put_to_sleep(self, agent: Awake) -> None:
        """End an idle agent's process; its identity stays in Postgres."""
        if self.awake.get(agent.pair) is agent:
            del self.awake[agent.pair]
        try:
            identity = await agent.process.tell(Sleep(self._epoch), HELLO_LIMIT_S)
        except ProcessGone:
            agent.process.kill()  # it may only be silent, and nobody would hear of it again
            return
        if identity.running:
            self.awake.setdefault(agent.pair, agent)

    def give_up(self, agent: Awake) -> None:
        """End a process that is silent, and take it for dead at once: nobody may say so later."""
        agent.process.kill()
        if self.awake.get(agent.pair) is agent:
            del self.awake[agent.pair]
            self._died(agent.process.name, agent.pair)

    async def greet(self, busy: Iterable[Pair], idle_s: float = IDLE_HEARD_S) -> None:
        """Let processes know that their supervisor lives, and learn their memory.

        Of those that are not `busy`, only who has not been heard for `idle_s` seconds.
        """
        taken, since = set(busy), asyncio.get_running_loop().time() - idle_s
        agents = [a for a in self.awake.values() if a.pair in taken or a.spoke_at <= since]
        answers = await asyncio.gather(
            *(
                agent.process.tell(Hello(self._epoch, self._supervisor), HELLO_LIMIT_S)
                for agent in agents
            ),
            *(
                process.tell(Hello(self._epoch, self._supervisor), HELLO_LIMIT_S)
                for process in self._warm
            ),
            return_exceptions=True,
        )
        for agent, answer in zip(agents, answers, strict=False):
            if not isinstance(answer, Identity):
                agent.unanswered += 1
                continue
            idled = agent.idled(answer)
            if idled is not None:
                self.idle_costs.idled(*idled)
            agent.learn(answer)

    @property
    def silent(self) -> list[Awake]:
        """Awake agents that did not answer for a while: stopped, or busy beyond measure."""
        return [agent for agent in self.awake.values() if agent.unanswered >= SILENT_AFTER]

    async def end_all(self) -> None:
        """Put everyone to sleep and drop the warm pool."""
        await asyncio.gather(*(self.put_to_sleep(agent) for agent in list(self.awake.values())))
        for process in self._warm:
            process.kill()
        self._warm.clear()
