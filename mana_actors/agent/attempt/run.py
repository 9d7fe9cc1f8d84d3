"""Who carries out an agent's orders in its process, one attempt each, and reports on them."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from mana_actors.agent.attempt.attempt import Attempt
from mana_actors.agent.attempt.job import Tally
from mana_actors.agent.attempt.lease import LeaseKeeper
from mana_actors.agent.attempt.means import Means
from mana_actors.agent.attempt.repair import heal
from mana_actors.agent.inputs.resolvers import Resolver
from mana_actors.agent.recall import Recall
from mana_actors.crash import CrashPoint
from mana_actors.keys.client import KeyHolder
from mana_actors.llm.provider import ModelProvider
from mana_actors.messages import AgentSettings, Order, Report
from state.errors import StateError
from state.runs.outcome import CapabilityRefused, Interrupted, Outcome, TakenOver
from state.store.agent import AgentStore
from state.store.connect import CapabilityInvalid, Superseded

log = logging.getLogger("mana.run")


class Runner:
    """Runs missions of one agent; the time is the database's, randomness comes from `secrets`."""

    def __init__(
        self,
        *,
        user_id: str,
        agent_id: str,
        holder: str,
        store: AgentStore,
        provider: ModelProvider,
        settings: AgentSettings,
        leases: LeaseKeeper,
        resolvers: Mapping[str, Resolver],
        crash: CrashPoint = lambda _point: None,
    ) -> None:
        keys = settings.key_address or settings.key_socket
        self.store, self.recall = store, Recall(store, user_id, agent_id)
        self._means = Means(
            user_id=user_id,
            agent_id=agent_id,
            holder=holder,
            settings=settings,
            recall=self.recall,
            store=store,
            provider=provider,
            key_holder=None if keys is None else KeyHolder(keys),
            leases=leases,
            resolvers=resolvers,
            crash=crash,
        )
        self._under_way: dict[str, Attempt] = {}

    @property
    def held_a_key(self) -> bool:
        """True once decrypted text was here."""
        return self._means.held_a_key

    async def aclose(self) -> None:
        """Close its connections; the next use opens them again."""
        await self._means.provider.aclose()
        await self.store.close()

    async def run(self, order: Order) -> Report:
        """Carry out one order; never raises but for cancellation."""
        attempt = self._under_way[order.mission_id] = Attempt(self._means, order)
        who = self._means.user_id, self._means.agent_id, order.mission_id
        try:
            ended = await attempt.carry_out()
        except Superseded:
            ended = TakenOver()
        except CapabilityInvalid:
            log.warning("capability_invalid agent=%s/%s mission=%s", *who)
            ended = CapabilityRefused()
        except StateError as exc:
            log.warning("run_interrupted agent=%s/%s mission=%s error=%s", *who, exc)
            ended = Interrupted()
        finally:
            self._under_way.pop(order.mission_id, None)
            self.recall.ends(order.mission_id)
        report = self._report(order, attempt.version, ended, attempt.tally)
        return msgspec.structs.replace(report, decided_by=attempt.decided_by)

    async def heal(self, order: Order) -> Report:
        """Put back what a client's write erased; never raises but for cancellation."""
        who = self._means.user_id, self._means.agent_id, order.mission_id
        try:
            ended = await heal(self.store, *who)
        except StateError as exc:
            log.warning("heal_interrupted agent=%s/%s mission=%s error=%s", *who, exc)
            ended = Interrupted()
        return self._report(order, order.version, ended, Tally())

    def stop(self, mission_id: str, reason: str, run_id: str | None = None) -> None:
        """End a mission's run at once; nothing happens where it does not run, or closes already."""
        attempt = self._under_way.get(mission_id)
        if attempt is not None:
            attempt.stop(reason, run_id)

    async def catch_up(self) -> None:
        """Read what is known to be behind, and stop runs that mission or agent want no longer.

        Raises StateError; each order reads what it needs.
        """
        await self.recall.catch_up()
        for mission_id, attempt in self._under_way.items():
            reason = self.recall.memory.why_unwanted(mission_id)
            if reason is not None:
                attempt.stop(reason)

    def _report(self, order: Order, version: int, ended: Outcome, tally: Tally) -> Report:
        """Ids, the ending and numbers: never a text of the owner's."""
        return Report(
            holder=self._means.holder,
            user_id=self._means.user_id,
            agent_id=self._means.agent_id,
            mission_id=order.mission_id,
            version=version,
            ended=ended,
            tokens=tally.tokens,
            model_calls=tally.model_calls,
            counts=tuple(tally.counts),
        )
