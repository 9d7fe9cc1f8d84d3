"""A node at work, a model that plays a part per mission, and what became of the missions."""

import asyncio
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from tests.fake_provider import DEFAULT, Entry, FakeProvider, Recorded
from tests.faults import granted
from tests.faults.invariants import ask, check_invariants, wait_until_quiet
from tests.integration.support import Client, text
from tests.node import NodeProcess, wait_for
from tests.postgres import LOG_OWNER, Database

DEFAULT_AGENT = "legacy:ai-default"
SERVED_S = 25.0
"""Less than the 30 s after which a lost order is looked at again anyway: that is not recovery."""

FAST = {
    "MANA_LEASE_MS": "3000",
    "MANA_BACKOFF_MIN_S": "0.2",
    "MANA_BACKOFF_MAX_S": "1",
    "MANA_WARM_POOL": "2",
    "MANA_PREPARE_AHEAD_S": "0",
    "MANA_AGENT_IDLE_S": "900",
    "TICK_INTERVAL_MS": "600000",
}
Pair = tuple[str, str]


class ScriptedProvider(FakeProvider):
    """Plays each mission's own script; a mission is known by its id in the prompt."""

    def __init__(self, script: Iterable[Entry] = ()) -> None:
        super().__init__(script)
        self.scripts: dict[str, list[Entry]] = {}

    def requests_for(self, mission: str) -> list[Recorded]:
        """The model calls of one mission."""
        return [request for request in self.requests if mission.encode() in request.raw]

    def _record(self, request: Recorded) -> Entry:
        super()._record(request)
        for mission, script in self.scripts.items():
            if script and mission.encode() in request.raw:
                return script.pop(0)
        return {**DEFAULT, "usage": [10, 5]}


class Mission(msgspec.Struct, frozen=True):
    """One mission that a test pushed."""

    user: str
    id: str
    agent: str = DEFAULT_AGENT

    @property
    def pair(self) -> Pair:
        """The agent it belongs to, as the supervisor names it."""
        return self.user, self.agent


class Scene:
    """Pushes missions as their owners would, and looks at what became of them."""

    def __init__(self, database: Database, provider: ScriptedProvider, node: NodeProcess) -> None:
        self.database, self.provider, self.node = database, provider, node

    def push(
        self,
        name: str,
        *script: Entry,
        user: str | None = None,
        agent: str = DEFAULT_AGENT,
        **f: Any,
    ) -> Mission:
        """A mission, due long ago unless its fields say otherwise; a user of its own by default."""
        id_ = f"{name}-{uuid.uuid4().hex[:12]}"
        mission = Mission(user or f"user-of-{id_}", id_, agent)
        self.provider.scripts[id_] = list(script)
        if agent != DEFAULT_AGENT:
            f["agentId"] = agent
        self._as_client(mission.user, "mission", id_, **{"objective": f"Plane {id_}", **f})
        return mission

    def push_granted(self, name: str, *script: Entry) -> Mission:
        """A mission that reads an encrypted note of its owner's, in a year; `start` makes it due.

        The note's copy is handed over. The node needs `granted.key_folder` as its MANA_KEYS_DIR.
        """
        mission = Mission(f"user-of-{name}", f"{name}-{uuid.uuid4().hex[:12]}")
        self.provider.scripts[mission.id] = list(script)
        grant, note = granted.grant(mission.user, mission.id), granted.note()
        self._as_client(mission.user, "push", "insert", "n1", note, table="notes", app="notes")
        fields = {"objective": f"Plane {mission.id}", "nextRunAt": "2126-01-01T00:00:00.000Z"}
        self._as_client(
            mission.user, "mission", mission.id, inputs=[granted.REF], grant=grant, **fields
        )
        wait_until_quiet(self.database)
        handed = granted.copies(mission.user, grant)
        put = "SELECT mana_ai.put_sealed_copies($1, $2, $3::jsonb) AS put"
        assert self.ask(put, mission.user, mission.id, handed) == [{"put": True}]
        return mission

    def start(self, mission: Mission) -> None:
        """Its time has come."""
        now = datetime.now(UTC)
        self.edit(mission, stamp=now + timedelta(days=400), nextRunAt=text(now))

    def add_agent(self, user: str, agent: str = DEFAULT_AGENT, **fields: Any) -> None:
        """A record of this agent."""
        self._as_client(user, "agent", agent, **fields)

    def edit(self, mission: Mission, **fields: Any) -> None:
        """Its owner changes some fields now."""
        self._as_client(mission.user, "edit", mission.id, **fields)

    def _as_client(self, user: str, method: str, *args: Any, **fields: Any) -> None:
        async def pushed() -> None:
            connection = await self.database.connect(LOG_OWNER)
            try:
                await getattr(Client(connection, user), method)(*args, **fields)
            finally:
                await connection.close()

        asyncio.run(pushed())

    def ask(self, statement: str, *args: Any) -> list[dict[str, Any]]:
        """Rows of any statement, past all row security."""
        return [dict(row) for row in ask(self.database, statement, *args)]

    def runs(self, mission: Mission) -> list[dict[str, Any]]:
        """Its run rows, oldest first."""
        return self.ask(
            "SELECT * FROM mana_ai.runs WHERE user_id = $1 AND mission_id = $2 ORDER BY opened_at",
            mission.user,
            mission.id,
        )

    def snapshot(self, mission: Mission) -> dict[str, Any]:
        """Its snapshot row, with the record decoded."""
        (row,) = self.ask(
            "SELECT * FROM mana_ai.mission_snapshots WHERE user_id = $1 AND mission_id = $2",
            mission.user,
            mission.id,
        )
        return row | {"record": msgspec.json.decode(row["record"])}

    def calls(self, mission: Mission) -> int:
        """Model calls that were made for it."""
        return len(self.provider.requests_for(mission.id))

    def wait_for_call(self, mission: Mission, count: int = 1) -> None:
        """Return once the model was asked so often for it."""
        wait_for(lambda: self.calls(mission) >= count, f"call {count} for {mission.id}", SERVED_S)

    def wait_served(
        self, mission: Mission, times: int = 1, within_s: float = SERVED_S
    ) -> dict[str, Any]:
        """Its newest run, once `times` of its runs are closed."""

        def served() -> list[dict[str, Any]]:
            closed = [run for run in self.runs(mission) if run["closed_at"] is not None]
            return closed if len(closed) >= times else []

        return wait_for(served, f"run {times} of {mission.id}", within_s)[-1]

    def assert_one_plan(self, mission: Mission, *, most_calls: int = 1) -> None:
        """One occurrence, one iteration, the next run ahead, and no more model calls than these."""
        wait_until_quiet(self.database)
        (run,) = self.runs(mission)
        record, next_run_at = (self.snapshot(mission)[k] for k in ("record", "next_run_at"))
        assert run["state"] == "committed", (run["state"], run["reason"])
        assert [iteration["id"] for iteration in record["iterations"]] == [run["iteration_id"]]
        assert next_run_at > datetime.now(UTC)
        assert 1 <= self.calls(mission) <= most_calls

    def check(self, *, succeeded: int = 1) -> None:
        """The invariants of tests/faults/invariants.py."""
        check_invariants(self.database, succeeded=succeeded)
