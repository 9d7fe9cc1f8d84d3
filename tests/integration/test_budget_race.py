"""Due missions of one agent race one budget from several processes that are killed (P5).

A trigger in the test's database writes down each hold and each charge in the order in which they
happen; the check walks that record.
"""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import pytest

from tests.fake_provider import Entry
from tests.integration.support import HeldProvider, World, open_world, until
from tests.postgres import SUPERUSER, Database
from tests.race_worker import Config

MANA = ("u1", "legacy:ai-default")
MISSIONS = 200
WORKERS = 4
KILLS = 6
RECORD = """
CREATE SCHEMA race;
CREATE TABLE race.record (
  id bigint GENERATED ALWAYS AS IDENTITY, what text, call_id uuid, tokens bigint);
CREATE FUNCTION race.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  r jsonb := CASE TG_OP WHEN 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
BEGIN
  INSERT INTO race.record (what, call_id, tokens)
  VALUES (TG_ARGV[0], (r ->> 'call_id')::uuid, (r ->> TG_ARGV[1])::bigint);
  RETURN NULL;
END $$;
CREATE TRIGGER held AFTER INSERT ON mana_ai.token_holds
  FOR EACH ROW EXECUTE FUNCTION race.note('held', 'tokens');
CREATE TRIGGER settled AFTER DELETE ON mana_ai.token_holds
  FOR EACH ROW EXECUTE FUNCTION race.note('settled', 'tokens');
CREATE TRIGGER charged AFTER INSERT ON mana_ai.token_usage
  FOR EACH ROW EXECUTE FUNCTION race.note('charged', 'tokens_used');
"""
SLOWLY = """
CREATE OR REPLACE FUNCTION mana_ai.lock_ledger(p_user text, p_agent text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN END $$;
CREATE FUNCTION race.dawdle() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(0.25); RETURN NEW; END $$;
CREATE TRIGGER dawdle BEFORE INSERT ON mana_ai.token_holds
  FOR EACH ROW EXECUTE FUNCTION race.dawdle();
"""
LOCK_WITHIN_THE_CHECK = """
INSERT INTO mana_ai.ledger SELECT 'u1', 'legacy:ai-default';
DO $do$ BEGIN
  EXECUTE replace(pg_get_functiondef(
      'mana_ai.begin_call(text, uuid, int, int, text, bigint, int, bigint)'::regprocedure),
    'FROM mana_ai.refusal(', 'FROM (SELECT FROM mana_ai.ledger AS l WHERE l.user_id = run.user_id'
    ' AND l.agent_id = run.agent_id FOR UPDATE) AS locked CROSS JOIN LATERAL mana_ai.refusal(');
END $do$;
"""
REMINDER = 200
"""Tokens: what the hint that a budget runs low adds to a call at most."""
LEFT_OPEN = (
    "SELECT count(*) FROM mana_ai.runs WHERE state = 'open' AND lease_until > clock_timestamp()"
)

LEFT = """
SELECT r.state, r.waiting_for, r.lost, r.lease_until < clock_timestamp() AS is_over,
       s.wake_at < clock_timestamp() AS is_due, s.wake_at IS NULL AS sleeps, s.decision, count(*),
       (SELECT count(*) FROM mana_ai.token_holds) AS holds
  FROM mana_ai.mission_snapshots AS s LEFT JOIN mana_ai.runs AS r USING (user_id, mission_id)
 WHERE s.user_id = 'u1' GROUP BY 1, 2, 3, 4, 5, 6, 7"""


class Event(msgspec.Struct, frozen=True):
    """A hold taken (held), given back (settled), or a charge."""

    what: str
    call_id: str
    tokens: int


def overspends(record: list[Event], cap: int) -> list[int]:
    """By how much each hold was over the cap when it was taken; empty is well."""
    used, held = 0, dict[str, int]()
    found: list[int] = []
    for event in record:
        match event.what:
            case "held":
                held[event.call_id] = event.tokens
                found.append(used + sum(held.values()) - cap)
            case "settled":
                del held[event.call_id]
            case _:
                used += event.tokens
    return [over for over in found if over > 0]


class Answers(HeldProvider):
    """Takes its time and uses a part of what was held, both by the seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed, self._random = seed, random.Random(seed)
        self.size = 1000  # of a hold

    def _record(self, request: object) -> Entry:
        super()._record(request)  # type: ignore[arg-type]
        used = self._random.randint(self.size // 3, self.size)
        return {
            "content": "fertig",
            "usage": [used, 0],
            "delay_s": self._random.uniform(0.05, 0.3),
        }


class Race:
    """The world, its workers and the cap they race for."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.seed, self.random = world, seed, random.Random(seed)
        self.workers: list[subprocess.Popen[bytes]] = []
        self.cap = 0

    def start(self) -> None:
        """One more worker."""
        database = self.world.database
        roles = ("mana_supervisor", "mana_agent", "mana_janitor")
        config = Config(
            MANA,
            database.dsn("mana_agent"),
            {role: str(database.password_file(role)) for role in roles},
            self.world.settings(lease_ms=2000),
        )
        command = [sys.executable, "-m", "tests.race_worker", msgspec.json.encode(config).decode()]
        self.workers.append(subprocess.Popen(command, cwd=Path(__file__).parents[2]))

    def kill_one(self) -> None:
        """SIGKILL for one of them, at random."""
        worker = self.workers.pop(self.random.randrange(len(self.workers)))
        worker.kill()
        worker.wait()

    def end(self) -> None:
        """SIGKILL for all that are left."""
        while self.workers:
            self.kill_one()

    async def record(self) -> list[Event]:
        """What happened so far, in order."""
        rows = await self.world.sql("SELECT * FROM race.record ORDER BY id")
        return [Event(r["what"], str(r["call_id"]), r["tokens"]) for r in rows]

    async def room(self) -> int:
        """What the cap leaves now."""
        return self.cap - await self.world.value(
            "SELECT (SELECT coalesce(sum(tokens_used), 0) FROM mana_ai.token_usage)"
            " + (SELECT coalesce(sum(tokens), 0) FROM mana_ai.token_holds)"
        )

    async def wait_until_quiet(self, hold: int) -> None:
        """Return once nothing goes on and nothing more fits; else say what is left."""
        try:
            await until(lambda: self.is_quiet(hold), 60)
        except TimeoutError:
            left = await self.world.sql(LEFT)
            ended = [worker.poll() for worker in self.workers]
            room = await self.room()
            raise AssertionError(f"room {room}, workers {ended}, missions {left}") from None

    async def is_quiet(self, hold: int) -> bool:
        """No call is under way and none more fits."""
        return await self.room() < hold and not await self.world.value(LEFT_OPEN)


async def due_missions(world: World, cap: int) -> None:
    """All of them due, of one agent that may run them all at once."""
    client = await world.client()
    await client.agent(maxConcurrentMissions=MISSIONS, maxTokensPerDay=cap)
    for number in range(MISSIONS):
        await client.mission(f"m{number:03}")
    await world.driver.fold_all()


async def hold_of_one_call(world: World) -> int:
    """What each call of these missions holds: learnt from another user's, whose agent is known too.

    An unknown agent is offered fewer tools, so its calls are smaller.
    """
    client = await world.client("u0")
    await client.agent()
    await client.mission("m000")
    await world.driver.fold_all()
    await world.run("m000", ("u0", MANA[1]))
    return int(await world.value("SELECT max(tokens) FROM race.record WHERE what = 'held'"))


async def raced(world: World, seed: int, *, calls: int, kills: int) -> Race:
    """Run until the budget is used up, killing workers as calls go on; nothing is left running."""
    race = Race(world, seed)
    hold = await hold_of_one_call(world)
    await world.sql("TRUNCATE race.record")
    await world.sql("TRUNCATE mana_ai.token_usage")
    answers = world.provider
    assert isinstance(answers, Answers)
    answers.size, race.cap = hold, hold * calls
    await due_missions(world, race.cap)
    before = len(answers.requests)
    try:
        for _ in range(WORKERS):
            race.start()
        for number in range(kills):
            await asyncio.to_thread(answers.wait_for_requests, before + (number + 1) * 10, 60)
            race.kill_one()
            race.start()
        await race.wait_until_quiet(hold + REMINDER)
    finally:
        race.end()
    return race


@pytest.fixture
async def racing(database: Database) -> AsyncGenerator[World]:
    seed = int(os.environ.get("MANA_TEST_SEED", "0")) or random.SystemRandom().randrange(1 << 31)
    sys.stdout.write(f"MANA_TEST_SEED={seed} replays kills and answers\n")
    async with open_world(database, provider=Answers(seed)) as opened:
        await (await opened.connect(SUPERUSER)).execute(RECORD)
        yield opened


async def test_200_missions_race_one_budget_and_no_call_starts_over_the_cap(racing: World):
    answers = racing.provider
    assert isinstance(answers, Answers)
    race = await raced(racing, answers.seed, calls=80, kills=KILLS)
    record = await race.record()
    holds = [event for event in record if event.what == "held"]
    assert overspends(record, race.cap) == []
    assert 0 <= await race.room() < answers.size + REMINDER
    assert len(holds) < MISSIONS + KILLS * 6  # the budget ended it, and not the work
    await nothing_is_doubled(racing, record)


async def nothing_is_doubled(world: World, record: list[Event]) -> None:
    """Each call is charged once, each occurrence planned once."""
    charged = [event.call_id for event in record if event.what == "charged"]
    assert len(charged) == len(set(charged))
    held = {event.call_id for event in record if event.what == "held"}
    assert set(charged) <= held
    rows = await world.sql(
        "SELECT record_id, count(*) AS times FROM public.sync_changes WHERE client_id ="
        " 'mana-ai-runner' AND user_id = 'u1' GROUP BY record_id"
    )
    committed = await world.value(
        "SELECT count(*) FROM mana_ai.runs WHERE state = 'committed' AND user_id = 'u1'"
    )
    assert {row["times"] for row in rows} == {1}
    assert len(rows) == committed


@pytest.mark.parametrize("more", ["", LOCK_WITHIN_THE_CHECK], ids=["no lock", "one statement"])
async def test_without_a_lock_of_its_own_statement_the_check_finds_an_overspend(
    racing: World, more: str
):
    answers = racing.provider
    assert isinstance(answers, Answers)
    await (await racing.connect(SUPERUSER)).execute(SLOWLY + more)
    race = await raced(racing, answers.seed, calls=20, kills=0)
    assert overspends(await race.record(), race.cap) != []


def test_the_check_sees_a_hold_that_does_not_fit():
    record = [Event("held", "a", 60), Event("held", "b", 50), Event("settled", "a", 60)]
    assert overspends(record, 100) == [10]
    assert overspends([*record[:1], *record[2:], Event("charged", "a", 40)], 100) == []
