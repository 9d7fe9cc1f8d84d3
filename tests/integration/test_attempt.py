"""One attempt, from its order to its ending: what it costs, and what may come in between."""

import ast
import asyncio
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mana_actors.agent.attempt.run import Runner
from mana_actors.agent.planner import loop
from mana_actors.messages import Order, Report
from state.store.agent import AgentStore
from state.store.connect import Database as Connections
from state.store.connect import Unavailable
from state.store.gateway.control import CANCELLED, ControlStore
from tests.integration.support import DONE, LEASE_OVER, PLAN, Json, Killed, World

pytestmark = pytest.mark.one_postgres

MANA = ("u1", "legacy:ai-default")
ROOT = Path(__file__).parents[2]
PACKAGES = tuple(str(ROOT / name) for name in ("state", "mana_actors", "supervisor"))
MOST_FRAMES = 8
"""From `run` to the store's commit: whoever reads what a run does has to keep these in mind."""
READS: Json = {"calls": [{"name": "list_tasks", "args": {}}], "usage": [60, 10]}


async def due_mission(world: World, **fields: Any) -> None:
    await (await world.client()).mission(**fields)
    await world.driver.fold_all()


class Wire:
    """What goes to the database, statement by statement, and what comes in between.

    `before` and `after` are asked with the name of the function that is called, and the times that
    it was called so far.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.before: Callable[[str, int], Awaitable[None]] = _nothing
        self.after: Callable[[str, int], Awaitable[None]] = _nothing
        self._fetchrow = Connections.fetchrow
        wire = self

        async def fetchrow(self: Connections, statement: str, *values: object) -> Any:
            return await wire.passed(self, statement, *values)

        patch.setattr(Connections, "fetchrow", fetchrow)

    async def passed(self, database: Connections, statement: str, *values: object) -> Any:
        """One statement of a run."""
        name = statement.split("mana_ai.", 1)[1].split("(", 1)[0]
        if name != "load_memory":  # that is its process's, before and between runs
            self.asked.append(name)
        times = self.asked.count(name)
        await self.before(name, times)
        row = await self._fetchrow(database, statement, *values)
        await self.after(name, times)
        return row


async def _nothing(_name: str, _times: int) -> None:
    """Nothing comes in between."""


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    monkeypatch.setattr("state.store.connect._MOST_S", 0.01)
    return Wire(monkeypatch)


# --- how far it is from the order to the commit ---------------------------------------------------


def frames() -> list[str]:
    """The functions of ours that are under way, the innermost first."""
    found: list[str] = []
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_filename.startswith(PACKAGES):
            found.append(frame.f_code.co_name)
        frame = frame.f_back
    return found


async def test_from_the_order_to_the_commit_a_reader_follows_few_calls(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    seen: list[list[str]] = []
    commit = AgentStore.commit

    async def watched(*args: Any, **kwargs: Any) -> Any:
        seen.append(["commit", *frames()])
        return await commit(*args, **kwargs)

    monkeypatch.setattr(AgentStore, "commit", watched)
    await due_mission(world)
    assert (await world.run()).outcome == "ran"
    (path,) = seen
    assert path[-1] == "run"
    assert len(path) <= MOST_FRAMES, path


def test_an_attempt_never_asks_its_own_wall_clock():
    """A process whose clock is an hour off decides like any other: its time is the database's."""
    asked = [
        f"{path.name}:{node.lineno}"
        for folder in ("attempt", "model", "inputs")
        for path in (ROOT / "mana_actors" / "agent" / folder).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and (node.attr in ("now", "utcnow", "today", "time", "time_ns"))
        and isinstance(node.value, ast.Name)
        and node.value.id in ("datetime", "date", "time")
    ]
    assert asked == []


# --- when an answer is settled --------------------------------------------------------------------


async def test_a_plan_of_one_round_is_three_statements_and_settled_with_its_commit(
    world: World, wire: Wire
):
    world.provider.script = [DONE]
    await due_mission(world)
    report = await world.run()
    assert (report.outcome, report.tokens) == ("ran", 50)
    assert wire.asked == ["claim", "begin_call", "commit_run"]
    assert await world.spent() == [50]


async def test_an_answer_is_settled_before_the_next_call_is_held(world: World, wire: Wire):
    world.provider.script = [PLAN, DONE]
    await due_mission(world)
    report = await world.run()
    assert (report.outcome, report.tokens) == ("ran", 150)
    assert wire.asked == ["claim", "begin_call", "end_call", "begin_call", "commit_run"]


async def test_an_answer_is_settled_before_a_tool_that_it_calls_begins(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    spent: list[list[int]] = []
    read = AgentStore.table_changes

    async def watched(*args: Any) -> Any:
        spent.append(await world.spent())
        return await read(*args)

    monkeypatch.setattr(AgentStore, "table_changes", watched)
    world.provider.script = [{**READS, "calls": READS["calls"] * 3}, DONE]
    await (await world.client()).agent()
    await due_mission(world)
    report = await world.run()
    assert (report.outcome, report.tokens) == ("ran", 120)
    assert spent
    assert all(each == [70] for each in spent), "before the first of them, and once"
    assert await world.spent() == [70, 50]


async def test_an_answer_that_kills_its_reader_is_paid_once_by_later_attempts(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    """The second attempt knows that one was lost: it settles what it hears before it reads it."""
    heard = loop.step

    def reader(given: Any, state: Any, event: Any) -> Any:
        if isinstance(event, loop.ModelAnswered):
            raise Killed
        return heard(given, state, event)

    monkeypatch.setattr(loop, "step", reader)
    world.provider.script = [DONE] * 5
    await due_mission(world)
    for attempt in range(1, 5):
        with pytest.raises(Killed):
            await world.run()
        await world.sql(LEASE_OVER)
        assert len(world.provider.requests) == min(attempt, 2), "then it is read from the journal"
        assert await world.spent() == [50] * (attempt > 1)
    assert (await world.run()).outcome == "failed"
    assert len(world.provider.requests) == 2


# --- what may come between an answer and its reply ------------------------------------------------


async def cancel(world: World, _runner: Runner) -> None:
    """The gateway closes the run; its process has not heard of it."""
    connections = Connections(world.access("mana_gateway"), max_connections=1)
    (run,) = await world.runs()
    await ControlStore(connections).cancel(run["run_id"])
    await connections.close()


async def cancel_and_say(world: World, runner: Runner) -> None:
    """The gateway closes the run, and its process hears of it."""
    await cancel(world, runner)
    runner.stop("m1", CANCELLED)
    await asyncio.sleep(0)


async def pause_and_say(world: World, runner: Runner) -> None:
    """Its owner pauses the mission, and the process hears of it."""
    await (await world.client()).edit(state="paused")
    await world.driver.fold_all()
    runner.stop("m1", "the mission is paused")
    await asyncio.sleep(0)


async def pause(world: World, _runner: Runner) -> None:
    """Its owner pauses the mission; it is not folded yet."""
    await (await world.client()).edit(state="paused")


async def lose(world: World, _runner: Runner) -> None:
    """Another process takes the run over, and gets no further."""
    await world.sql(LEASE_OVER)
    await world.sql("UPDATE mana_ai.runs SET attempt = attempt + 1")


async def lose_the_reply(_world: World, _runner: Runner) -> None:
    """It was done, and the process does not hear of it."""
    raise Unavailable("ConnectionDoesNotExistError")


Incident = Callable[[World, Runner], Awaitable[None]]


async def run_with(
    world: World, wire: Wire, when: tuple[str, str, int], incident: Incident
) -> Report:
    """A run of two rounds into which something comes, before or after the n-th such statement."""
    moment, statement, number = when
    world.provider.script = [PLAN, DONE]
    await due_mission(world)
    runner = await world.driver.runner(MANA)

    async def come_between(name: str, times: int) -> None:
        if (name, times) == (statement, number):
            await incident(world, runner)

    setattr(wire, moment, come_between)
    return await runner.run(Order("m1", 0))


FIRST_ANSWER = [
    ("before", "end_call", 1),
    ("after", "end_call", 1),
    ("before", "begin_call", 2),
]


@pytest.mark.parametrize("when", FIRST_ANSWER)
@pytest.mark.parametrize(
    ("incident", "outcome"),
    [
        (cancel, "superseded"),
        (cancel_and_say, "withdrawn"),
        (pause_and_say, "withdrawn"),
        (lose, "superseded"),
    ],
)
async def test_an_answer_is_paid_as_reported_whatever_ends_its_run(
    world: World, wire: Wire, when: tuple[str, str, int], incident: Incident, outcome: str
):
    report = await run_with(world, wire, when, incident)
    assert (report.outcome, report.tokens) == (outcome, 100)
    spent = [tokens for tokens in await world.spent() if tokens]
    assert spent == [100], "what the provider reported, once"
    assert await world.value("SELECT count(*) FROM mana_ai.token_holds") == 0
    assert len(world.provider.requests) == 1
    assert (await world.runs())[0]["tokens"] == 100
    assert await world.written() == []


@pytest.mark.parametrize(
    ("incident", "outcome"),
    [
        (cancel, "superseded"),
        (cancel_and_say, "superseded"),
        (pause, "withdrawn"),
        (lose, "superseded"),
    ],
)
async def test_the_last_answer_is_paid_as_reported_though_its_plan_is_not_written(
    world: World, wire: Wire, incident: Incident, outcome: str
):
    report = await run_with(world, wire, ("before", "commit_run", 1), incident)
    assert (report.outcome, report.tokens) == (outcome, 150)
    assert await world.spent() == [100, 50]
    assert await world.value("SELECT count(*) FROM mana_ai.token_holds") == 0
    assert await world.written() == []
    await world.driver.fold_all()


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("incident", [cancel_and_say, pause_and_say])
async def test_a_hold_whose_call_never_began_is_not_charged(
    world: World, wire: Wire, moment: str, incident: Incident
):
    """The stop comes while it is asked for, so its process does not know yet that it has it."""
    report = await run_with(world, wire, (moment, "begin_call", 1), incident)
    assert (report.outcome, report.tokens) == ("withdrawn", 0)
    assert sum(await world.spent()) == 0
    assert await world.value("SELECT count(*) FROM mana_ai.token_holds") == 0
    assert world.provider.requests == []


async def test_a_stop_comes_too_late_once_the_run_ends(world: World, wire: Wire):
    async def say(_world: World, runner: Runner) -> None:
        runner.stop("m1", "the mission is paused")
        await asyncio.sleep(0)

    report = await run_with(world, wire, ("before", "commit_run", 1), say)
    assert (report.outcome, report.tokens) == ("ran", 150)
    assert len(await world.written()) == 1


@pytest.mark.parametrize("statement", ["claim", "begin_call", "end_call", "commit_run"])
async def test_a_reply_that_is_lost_changes_nothing(world: World, wire: Wire, statement: str):
    report = await run_with(world, wire, ("after", statement, 1), lose_the_reply)
    assert (report.outcome, report.tokens) == ("ran", 150)
    assert wire.asked.count(statement) == (3 if statement == "begin_call" else 2)
    assert await world.spent() == [100, 50]
    (run,) = await world.runs()
    assert (run["state"], run["attempt"], run["tokens"]) == ("committed", 1, 150)
    assert len(await world.written()) == 1
    assert len(world.provider.requests) == 2


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        ({"status": 503}, 0),
        ({"status": 400, "kind": "blocked"}, 0),
        ({"garbage": b"not json"}, None),
        ({"content": " ", "usage": [30, 3]}, 33),
    ],
)
async def test_a_call_that_brings_no_plan_is_settled_with_its_ending(
    world: World, wire: Wire, answer: Json, tokens: int | None
):
    """None: nobody reported anything, so the hold is charged."""
    world.provider.script = [answer]
    await due_mission(world)
    held: list[int] = []

    async def look(name: str, _times: int) -> None:
        if name == "begin_call":
            held.extend(r["tokens"] for r in await world.sql("SELECT * FROM mana_ai.token_holds"))

    wire.after = look
    report = await world.run()
    assert report.outcome in ("waiting", "failed")
    assert wire.asked[:2] == ["claim", "begin_call"]
    assert len(wire.asked) == 3, "its ending takes it along"
    assert await world.spent() == (held if tokens is None else [tokens])
    assert report.tokens == (held[0] if tokens is None else tokens)


# --- what is decided anew -------------------------------------------------------------------------


async def test_a_mission_that_changed_before_its_claim_is_decided_on_anew(world: World, wire: Wire):
    await due_mission(world)

    async def rename(name: str, times: int) -> None:
        if (name, times) == ("claim", 1):
            await (await world.client()).edit(objective="Plane den Monat")
            await world.driver.fold_all()

    wire.before = rename
    assert (await world.run()).outcome == "ran"
    assert wire.asked.count("claim") == 2
    assert "Plane den Monat" in world.provider.requests[0].raw.decode()


async def test_a_pause_before_the_claim_is_heard(world: World, wire: Wire):
    await due_mission(world)

    async def paused(name: str, _times: int) -> None:
        if name == "claim":
            await (await world.client()).edit(state="paused")
            await world.driver.fold_all()

    wire.before = paused
    assert (await world.run()).outcome in ("later", "unwanted")
    assert await world.runs() == []
    assert world.provider.requests == []


async def test_a_mission_that_changes_before_every_claim_is_left_for_a_moment(
    world: World, wire: Wire
):
    await due_mission(world)

    async def rename(name: str, times: int) -> None:
        if name == "claim":
            await (await world.client()).edit(title=f"Plan {times}")
            await world.driver.fold_all()

    wire.before = rename
    report = await world.run()
    assert report.outcome == "later"
    assert wire.asked == ["claim"] * 5
    assert await world.runs() == []


async def test_a_mission_that_changes_before_every_commit_keeps_its_plan_for_later(
    world: World, wire: Wire
):
    """Each try is decided on what is there by then; after ten its journal waits, and is read."""
    world.provider.script = [DONE]
    await due_mission(world)

    async def recolour(name: str, times: int) -> None:
        if name == "commit_run":  # no prompt tells of it
            await (await world.client()).edit(colour=times)

    wire.before = recolour
    report = await world.run()
    assert (report.outcome, report.tokens) == ("waiting", 50)
    assert wire.asked.count("commit_run") == 10
    (run,) = await world.runs()
    assert (run["state"], run["failures"], run["waiting_for"]) == ("waiting", 0, "back-off")
    assert await world.written() == []
    wire.before = _nothing
    await world.driver.fold_all()
    await world.sql("UPDATE mana_ai.runs SET not_before = clock_timestamp()")
    report = await world.run()
    assert (report.outcome, report.tokens) == ("ran", 0)
    assert len(world.provider.requests) == 1, "no new model call"
    assert await world.spent() == [50]


async def test_a_kill_once_a_commit_was_overtaken_costs_no_call(world: World, wire: Wire):
    """The commit that wrote nothing settled the answer and kept it."""
    world.provider.script = [DONE]
    await due_mission(world)

    async def recolour(name: str, _times: int) -> None:
        if name == "commit_run":
            await (await world.client()).edit(colour="red")

    async def killed(name: str, _times: int) -> None:
        if name == "commit_run":
            raise Killed

    wire.before, wire.after = recolour, killed
    with pytest.raises(Killed):
        await world.run()
    assert await world.written() == []
    await world.sql(LEASE_OVER)
    wire.before = wire.after = _nothing
    await world.driver.fold_all()
    assert (await world.run()).outcome == "ran"
    assert len(world.provider.requests) == 1
    assert await world.spent() == [50]


async def test_a_commit_keeps_what_its_owner_wrote_meanwhile(world: World, wire: Wire):
    world.provider.script = [DONE]
    await due_mission(world)
    later = "2027-03-01T07:00:00.000Z"

    async def move(name: str, times: int) -> None:
        if (name, times) == ("commit_run", 1):
            await (await world.client()).edit(nextRunAt=later)

    wire.before = move
    assert (await world.run()).outcome == "ran"
    assert wire.asked.count("commit_run") == 2
    (row,) = await world.written()
    assert set(row["data"]) == {"iterations"}
    await world.driver.fold_all()
    assert (await world.record())["nextRunAt"] == later


async def test_a_plan_that_cannot_be_stored_fails_visibly(world: World, wire: Wire):
    world.provider.script = [DONE]
    await due_mission(world)
    await world.sql(
        "CREATE FUNCTION public.too_much() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.data::text LIKE '%Ein Task%' THEN RAISE program_limit_exceeded; END IF;"
        " RETURN NEW; END $$"
    )
    await world.sql(
        "CREATE TRIGGER too_much BEFORE INSERT ON public.sync_changes"
        " FOR EACH ROW EXECUTE FUNCTION public.too_much()"
    )
    report = await world.run()
    assert (report.outcome, report.tokens) == ("failed", 50)
    assert wire.asked.count("commit_run") == 2
    (row,) = await world.written()
    assert row["data"]["iterations"][0]["errorDetails"]["name"] == "not-storable"
    assert await world.spent() == [50]


# --- what comes with a claim ----------------------------------------------------------------------


@pytest.mark.parametrize(("size", "read_later"), [(100, 0), (100_000, 1)])
async def test_inputs_come_with_the_claim_unless_they_are_large(
    world: World, monkeypatch: pytest.MonkeyPatch, size: int, read_later: int
):
    read, asked = AgentStore.input_changes, list[str]()

    async def watched(self: AgentStore, app: str, table: str, record_id: str) -> Any:
        asked.append(record_id)
        return await read(self, app, table, record_id)

    monkeypatch.setattr(AgentStore, "input_changes", watched)
    client = await world.client()
    note = {"id": "n1", "title": "Notiz", "content": f"Hefe kaufen {'x' * size}"}
    await client.push("insert", "n1", note, table="notes", app="notes")
    await due_mission(world, inputs=[{"module": "notes", "table": "notes", "id": "n1"}])
    assert (await world.run()).outcome == "ran"
    assert "Hefe kaufen" in world.provider.requests[0].raw.decode()
    assert len(asked) == read_later


async def test_a_mission_that_is_too_large_for_its_claim_is_read_after_it(world: World):
    await due_mission(world, conceptMarkdown=f"{'x' * 100_000} Hefe kaufen")
    assert (await world.run()).outcome == "ran"
    assert "Hefe kaufen" in world.provider.requests[0].raw.decode()
    (row,) = await world.written()
    assert len(row["data"]["iterations"]) == 1
