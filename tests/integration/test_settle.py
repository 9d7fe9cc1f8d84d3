"""A call is charged what it cost, once, whatever becomes of the run that asked (P2, P5)."""

import json
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable

import msgspec
import pytest

from state.rules.budgets import Hold
from state.store.agent import Ended, PlanNote, Unsettled
from tests.integration.hand import HELD, MANA, Hand, claimed
from tests.integration.support import LEASE_OVER, World, open_world
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
