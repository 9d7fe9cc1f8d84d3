"""One attempt by hand: claimed, a call held, and an ending asked for when the test says so."""

from __future__ import annotations

import json
import uuid
from typing import Any

import msgspec

from state.rules.budgets import Hold
from state.runs.commit import Commit
from state.store.agent import AgentStore, Basis, Claim, Closing, Ended, MissionNow, Unsettled
from supervisor.supervision.dispatch import Pair
from tests.integration.support import LONG_AGO, World

MANA = ("u1", "legacy:ai-default")
HELD = 1000
FLOOR = "2020-01-01T00:00:00.000Z"


class Hand:
    """What a process of the agent does, without one."""

    def __init__(self, world: World, store: AgentStore, claim: Claim, pair: Pair) -> None:
        self.world, self.store, self.claim, self.pair = world, store, claim, pair

    @property
    def basis(self) -> Basis:
        return self.claim.basis

    async def hold(self, tokens: int = HELD) -> Any:
        """A call under way."""
        assert self.claim.attempt is not None
        begun = await self.store.begin_call(
            self.claim.run_id, self.claim.attempt, 1, "digest", Hold(tokens), 60_000
        )
        assert begun.outcome == "go"
        return begun.call_id

    async def answered(self, tokens: int | None = 700) -> Unsettled:
        """A call whose answer has come, which nobody but its process knows."""
        assert self.claim.attempt is not None
        return Unsettled(await self.hold(), self.claim.attempt, "digest", "{}", tokens, None)

    def closing(self, unsettled: Unsettled | None = None) -> Closing:
        assert self.claim.attempt is not None
        return Closing(self.claim.run_id, self.claim.attempt, unsettled=unsettled)

    def plan(self, **more: Any) -> Commit:
        """A plan with one iteration."""
        actor = {"kind": "ai", "principalId": self.pair[1], "displayName": "N"}
        commit = Commit(
            state="committed",
            data=json.dumps({"iterations": [{"id": "it1"}], "nextRunAt": None}),
            floor=FLOOR,
            actor=json.dumps(actor),
            next_run_at=None,
            iteration_id="it1",
            steps=1,
            reason=None,
        )
        return msgspec.structs.replace(commit, **more)

    async def commit(
        self,
        basis: Basis | None = None,
        unsettled: Unsettled | None = None,
        plan: Commit | None = None,
    ) -> Ended:
        return await self.store.commit(
            self.closing(unsettled), plan or self.plan(), basis or self.basis
        )

    async def changed(self, unsettled: Unsettled | None = None) -> MissionNow:
        """What is newer than the claim."""
        ended = await self.commit(unsettled=unsettled)
        assert ended.outcome == "changed"
        assert ended.newer is not None
        return ended.newer


async def claimed(
    world: World, mission: str = "m1", pair: Pair = MANA, holder: str = "hand", **more: Any
) -> Hand:
    """An attempt at what is due; `more` goes into the claim."""
    store = await world.driver.store(pair)
    more = {"claim_id": uuid.uuid4()} | more
    claim = await store.claim(mission, LONG_AGO, 60_000, holder, "{}", **more)
    assert claim.outcome == "claimed", claim
    return Hand(world, store, claim, pair)
