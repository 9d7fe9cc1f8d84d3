"""A call is charged what it cost, once, whatever becomes of the run that asked (P2, P5)."""

import json
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime

import msgspec
import pytest

from state.rules.budgets import Hold
from state.store.agent import CallStart, Ended, PlanNote, Unsettled
from tests.integration.hand import HELD, MANA, Hand, claimed
from tests.integration.support import LEASE_OVER, LONG_AGO, World, open_world
from tests.postgres import Database

Ending = Callable[[Hand, Unsettled], Awaitable[Ended]]
ENDINGS: dict[str, Ending] = {
    "commit": lambda hand, call: hand.commit(unsettled=call),
    "withdraw": lambda hand, call: hand.store.withdraw(hand.closing(call), "why", 1),
    "skip": lambda hand, call: hand.store.skip(hand.closing(call), "why", 1),
    "wait": lambda hand, call: hand.store.wait(
        hand.closing(call), "why", 1, "back-off", failed=True
    ),
    "no room": lambda hand, call: hand.store.wait_for_room(hand.closing(call), "why", Hold(5)),
}
EXPIRE = "UPDATE mana_ai.token_holds SET deadline = clock_timestamp() - interval '1 second'"
CHARGE = "SELECT mana_ai.charge_expired_holds('u1', 'legacy:ai-default')"


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[World]:
    async with open_world(database) as opened:
        client = await opened.client()
        await client.agent()
        await client.mission()
        await opened.driver.fold_all()
        yield opened


async def charged(world: World) -> list[int]:
    """What was charged, where no hold is left and the run says the same."""
    spent = await world.spent()
    assert await world.value("SELECT count(*) FROM mana_ai.token_holds") == 0
    assert await world.value("SELECT sum(tokens) FROM mana_ai.runs") == sum(spent)
    return spent


@pytest.mark.parametrize("ending", ENDINGS)
async def test_every_ending_charges_the_answer_that_it_takes_along(world: World, ending: str):
    hand = await claimed(world)
    call = await hand.answered()
    ended = await ENDINGS[ending](hand, call)
    assert (ended.outcome, ended.charged) == ("done", 700)
    assert await charged(world) == [700]
    left = await world.value("SELECT count(*) FROM mana_ai.journal")
    assert left == (ending in ("wait", "no room"))  # for the next attempt


@pytest.mark.parametrize("ending", ENDINGS)
async def test_an_ending_asked_for_again_has_landed_and_charges_once(world: World, ending: str):
    hand = await claimed(world)
    call = await hand.answered()
    first = await ENDINGS[ending](hand, call)
    again = await ENDINGS[ending](hand, call)
    assert (again.outcome, again.charged) == ("landed", 700)
    assert again.is_news == first.is_news
    assert again.look_at == (first.look_at if ending == "wait" else None)
    assert await charged(world) == [700]
    decisions = await world.value("SELECT count(*) FROM mana_ai.decisions")
    assert decisions == (ending != "wait")


async def overtaken(hand: Hand) -> None:
    await hand.world.sql(LEASE_OVER)
    await claimed(hand.world, holder="another")


async def cancelled(hand: Hand) -> None:
    run = hand.claim.run_id
    await hand.world.sql("SELECT mana_ai.cancel_run('u1', $1, 'cancelled')", run)


async def moved_on(hand: Hand) -> None:
    """The owner moved the next run, and another claim withdrew what had lost its lease."""
    await hand.world.sql(LEASE_OVER)
    await (await hand.world.client()).edit(nextRunAt="2026-02-01T00:00:00.000Z")
    await hand.world.driver.fold_all()
    store = await hand.world.driver.store(MANA)
    (slot,) = await hand.world.sql("SELECT next_run_at FROM mana_ai.mission_snapshots")
    claim = await store.claim("m1", slot["next_run_at"], 60_000, "x", "{}", claim_id=uuid.uuid4())
    assert claim.outcome == "claimed"


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("taking", [overtaken, cancelled, moved_on])
async def test_an_attempt_that_lost_its_run_is_charged_and_ends_nothing(
    world: World, taking: Callable[[Hand], Awaitable[None]], ending: str
):
    hand = await claimed(world)
    call = await hand.answered()
    await taking(hand)
    before = [(run["state"], run["attempt"]) for run in await world.runs()]
    ended = await ENDINGS[ending](hand, call)
    assert (ended.outcome, ended.charged) == ("superseded", 700)
    assert [(run["state"], run["attempt"]) for run in await world.runs()] == before
    assert await charged(world) == [700]
    assert await world.written() == []
    assert await world.value("SELECT count(*) FROM mana_ai.journal") == 0


async def test_a_plan_that_must_be_decided_again_is_charged_and_its_answer_kept(world: World):
    hand = await claimed(world)
    call = await hand.answered()
    await (await world.client()).edit(title="Neu")
    newer = await hand.changed(call)
    assert await charged(world) == [700]
    assert await world.value("SELECT count(*) FROM mana_ai.journal") == 1
    ended = await hand.commit(newer.basis)
    assert (ended.outcome, ended.charged) == ("done", None)
    assert await charged(world) == [700]


HOSTILE_PLANS = {
    "not JSON": {"data": "{"},
    "NUL": {"data": '{"iterations": ["\\u0000"]}'},
    "another's": {"actor": '{"kind": "ai", "principalId": "a2"}'},
    "no stamp": {"floor": "zzzz"},
    "no instant": {"floor": "2026-99-01T00:00:00.000Z"},
    "fields": {"data": '{"iterations": [], "title": "mine"}'},
}


@pytest.mark.parametrize("hostile", HOSTILE_PLANS)
async def test_what_cannot_be_written_is_refused_and_charged(world: World, hostile: str):
    hand = await claimed(world)
    call = await hand.answered()
    ended = await hand.commit(unsettled=call, plan=hand.plan(**HOSTILE_PLANS[hostile]))
    assert (ended.outcome, ended.charged) == ("refused", 700)
    assert await charged(world) == [700]
    assert [run["state"] for run in await world.runs()] == ["open"]
    assert await world.written() == []
    assert (await hand.commit()).outcome == "done"


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("answers", ['{"1": {"tokens": "x"}}', "[]", '{"1": {"tokens": 1e400}}'])
async def test_a_note_that_cannot_be_stored_costs_no_charge(
    world: World, ending: str, answers: str
):
    hand = await claimed(world)
    call = await hand.answered()

    def closing(unsettled: Unsettled | None = None) -> object:
        sound = Hand.closing(hand, unsettled)
        return msgspec.structs.replace(sound, note=PlanNote(answers))

    hand.closing = closing  # type: ignore[method-assign]
    ended = await ENDINGS[ending](hand, call)
    assert (ended.outcome, ended.charged) == ("refused", 700)
    assert await charged(world) == [700]
    assert [run["state"] for run in await world.runs()] == ["open"]


@pytest.mark.parametrize(
    ("told", "paid", "basis"),
    [
        (700, 700, "reported"),
        (5000, 5000, "above-hold"),
        (None, HELD, "hold"),
        (-5, HELD, "hold"),
        (1 << 60, HELD, "hold"),
    ],
)
async def test_the_report_is_charged_and_else_the_hold(
    world: World, told: int | None, paid: int, basis: str
):
    hand = await claimed(world)
    call = await hand.answered(told)
    assert (await ENDINGS["withdraw"](hand, call)).charged == paid
    assert await charged(world) == [paid]
    assert await world.value("SELECT basis FROM mana_ai.token_usage") == basis


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize(("told", "paid"), [(700, HELD), (5000, 5000), (None, HELD)])
async def test_a_report_after_the_deadline_corrects_the_charge_to_the_larger(
    world: World, told: int | None, paid: int, alone: bool
):
    hand = await claimed(world)
    call = await hand.answered(told)
    await world.sql(EXPIRE)
    await world.sql("SELECT set_config('app.current_user_id', 'u1', false)")
    await world.sql(CHARGE)
    assert await world.spent() == [HELD]
    for _ in range(2):
        if alone:
            assert await hand.store.end_call(call) == paid
        else:
            assert (await hand.commit(unsettled=call)).charged == paid
    assert await charged(world) == [paid]


async def test_a_call_that_says_nothing_readable_ends_its_run_and_is_charged_at_its_deadline(
    world: World,
):
    hand = await claimed(world)
    await hand.hold()
    text = json.dumps({"call_id": "nobody", "attempt": 1})
    closing = {**hand.closing().values(), "call": text}
    row = await hand.store.asked("withdraw_run", **closing, reason="why", look_s=1.0)
    assert (row["outcome"], row["charged"]) == ("done", None)
    await world.sql(EXPIRE)
    await world.sql("SELECT set_config('app.current_user_id', 'u1', false)")
    await world.sql(CHARGE)
    assert await world.spent() == [HELD]


async def test_another_agents_call_is_not_settled(world: World):
    hand = await claimed(world)
    call = await hand.answered()
    theirs = await world.driver.store(("u2", MANA[1]))
    assert await theirs.end_call(call) == 0
    ended = await theirs.withdraw(hand.closing(call), "why", 1)
    assert (ended.outcome, ended.charged) == ("superseded", 0)
    assert await world.spent() == []
    assert (await hand.commit(unsettled=call)).charged == 700


@pytest.mark.one_postgres
@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize(
    ("told", "price", "cost"),
    [(7, 30, 30), (7, 99, 99), (7, None, 50), (0, None, 0), (7, -1, 50), (7, 10**13, 50)],
)
async def test_the_price_is_charged_and_else_that_of_the_hold(
    world: World, told: int, price: int | None, cost: int, is_late: bool
):
    """A report after the deadline corrects it to the larger, as it does the tokens."""
    hand = await claimed(world)
    begun = await hand.store.begin_call(hand.claim.run_id, 1, 1, "d", Hold(HELD, 50), 60_000)
    if is_late:
        await world.sql(EXPIRE)
        await world.sql("SELECT set_config('app.current_user_id', 'u1', false)")
        await world.sql(CHARGE)
    await hand.store.end_call(Unsettled(begun.call_id, 1, "d", "{}", told, price))
    paid = await world.value("SELECT cost_micros FROM mana_ai.token_usage")
    assert paid == (max(cost, 50) if is_late else cost)


@pytest.mark.one_postgres
async def test_a_call_asked_for_again_is_held_once_and_each_round_and_attempt_by_itself(
    world: World,
):
    hand = await claimed(world)
    run = hand.claim.run_id

    async def begin(attempt: int, number: int, digest: str = "digest") -> CallStart:
        return await hand.store.begin_call(run, attempt, number, digest, Hold(HELD), 60_000)

    first = await begin(1, 1)
    assert (await begin(1, 1)).call_id == first.call_id
    assert (await begin(1, 2)).call_id != first.call_id
    await hand.store.end_call(Unsettled(first.call_id, 1, "digest", "{}", 700))
    assert (await begin(1, 1)).outcome == "journaled"
    assert [(await begin(1, *other)).outcome for other in ((1, "else"), (3, "digest"))] == [
        "go"
    ] * 2
    third = await begin(1, 3)
    await world.sql(LEASE_OVER)
    await claimed(world, holder="another")
    assert (await begin(2, 3)).call_id != third.call_id
    await world.sql(EXPIRE)
    assert (await begin(2, 4)).outcome == "go"
    assert await world.value("SELECT count(*) FROM mana_ai.token_holds") == 1
    assert sorted(await world.spent()) == [700, *[HELD] * 4]
    assert (await world.runs())[0]["model_calls"] == 6


@pytest.mark.one_postgres
@pytest.mark.parametrize("ending", ENDINGS)
async def test_every_ending_gives_its_place_and_its_room_to_who_waits(world: World, ending: str):
    hand = await claimed(world)
    call = await hand.answered()
    for mission, decision in (("place", "skipped-concurrency"), ("room", "skipped-budget")):
        await world.sql(
            "INSERT INTO mana_ai.mission_snapshots (user_id, mission_id, record, decision, wake_at)"
            " VALUES ('u1', $1, '{}', $2, now() + interval '1 hour')",
            mission,
            decision,
        )
    await world.sql(
        "INSERT INTO mana_ai.runs (user_id, agent_id, mission_id, due_at, state, waiting_for)"
        " VALUES ('u1', $1, 'room', now(), 'waiting', 'holds')",
        MANA[1],
    )
    await ENDINGS[ending](hand, call)
    woken = await world.sql(
        "SELECT mission_id FROM mana_ai.mission_snapshots"
        " WHERE mission_id <> 'm1' AND wake_at <= clock_timestamp() ORDER BY mission_id"
    )
    assert [row["mission_id"] for row in woken] == ["place", "room"]


@pytest.mark.one_postgres
@pytest.mark.parametrize("failed", [False, True])
async def test_a_run_that_waits_says_for_what_and_until_when(world: World, failed: bool):
    hand = await claimed(world)
    ended = await hand.store.wait(hand.closing(), "why", 60, "back-off", failed=failed)
    (run,) = await world.runs()
    assert (run["state"], run["reason"], run["waiting_for"]) == ("waiting", "why", "back-off")
    assert (run["failures"], run["lease_until"]) == (int(failed), None)
    assert run["not_before"] == ended.look_at == (await world.snapshot())["wake_at"]


DAY_AHEAD = "clock_timestamp() + interval '23 hours'"
ROOMS: dict[str, tuple[int, int, int, str, str]] = {
    "by now": (100, 0, 0, "budget", "wake_at <= clock_timestamp()"),
    "once a call is settled": (100, 0, 99, "holds", f"wake_at < {DAY_AHEAD}"),
    "in a day": (100, 99, 0, "budget", f"wake_at > {DAY_AHEAD}"),
    "never by itself": (4, 0, 0, "budget", "wake_at IS NULL"),
}


@pytest.mark.one_postgres
@pytest.mark.parametrize("kind", ["agent", "user", "installation"])
@pytest.mark.parametrize("room", ROOMS)
async def test_a_run_without_room_is_looked_at_when_there_may_be_some(
    world: World, room: str, kind: str
):
    cap, used, held, waits_for, look = ROOMS[room]
    hand = await claimed(world)
    await world.sql(
        "INSERT INTO mana_ai.limits (kind, user_id, agent_id, tokens) VALUES ($1, $2, $3, $4)",
        kind,
        "" if kind == "installation" else "u1",
        MANA[1] if kind == "agent" else "",
        cap,
    )
    if held:
        await hand.hold(held)
    if used:
        call = await hand.hold(used)
        await hand.store.end_call(Unsettled(call, 1, "digest", None, used))
    found = await hand.store.room_for_call(hand.claim.run_id, 1, Hold(5))
    assert found.outcome == ("go" if room == "by now" else "no-room")
    assert found.cap == (cap if found.scope in ("agent", "user") else None)
    await hand.store.wait_for_room(hand.closing(), "why", Hold(5))
    (run,) = await world.runs()
    assert (run["waiting_for"], run["not_before"], run["lease_until"]) == (waits_for, None, None)
    assert await world.value(f"SELECT {look} FROM mana_ai.mission_snapshots")


REQUESTS = [LONG_AGO.replace(day=day) for day in (7, 8)]
NEXT = LONG_AGO.replace(year=2099)


@pytest.mark.one_postgres
@pytest.mark.parametrize(
    ("due_at", "asked", "left"),
    [
        (LONG_AGO, [], []),
        (LONG_AGO, REQUESTS, REQUESTS),
        (REQUESTS[0], REQUESTS, REQUESTS[1:]),
    ],
)
async def test_a_plan_closes_the_request_that_it_serves_and_the_next_is_looked_at(
    world: World, due_at: datetime, asked: list[datetime], left: list[datetime]
):
    for at in asked:
        await world.sql(
            "INSERT INTO mana_ai.run_requests (user_id, request_key, mission_id, due_at)"
            " VALUES ('u1', $1, 'm1', $2)",
            str(at),
            at,
        )
    store = await world.driver.store(MANA)
    claim = await store.claim("m1", due_at, 60_000, "hand", "{}")
    hand = Hand(world, store, claim, MANA)
    assert (await hand.commit(plan=hand.plan(next_run_at=NEXT))).outcome == "done"
    waiting = await world.sql(
        "SELECT due_at FROM mana_ai.run_requests WHERE closed_at IS NULL ORDER BY due_at"
    )
    assert [row["due_at"] for row in waiting] == left
    assert (await world.snapshot())["wake_at"] == min([NEXT, *left])
    assert (await world.runs())[0]["steps"] == 1
