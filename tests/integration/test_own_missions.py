"""What people see of their own missions: why one did not run, and nobody else's."""

import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from mana_actors.client.owner.grants import MissionGrants
from mana_actors.client.owner.sealing import OwnerKeys
from tests.integration.granted_scene import Records, granted, hand_over, push_sealed
from tests.integration.key_scene import DAY_S, MASTER_KEY, Scene, key_scene
from tests.integration.support import DONE, PLAN, Json, open_world
from tests.owners import PAGE, House
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

PATH = "/api/v1/me/ai-missions"
NOTE: Records = {("notes", "n1"): {"id": "n1", "title": "Einkauf", "content": "Kuchen"}}
REF: Json = {"module": "notes", "table": "notes", "id": "n1"}
NO_GRANT = "its encrypted inputs need a grant, and it has none"
NO_GRANT_SHOWN = {"state": "none", "expiresAt": None, "recordCount": None}
RUN = """
INSERT INTO mana_ai.runs (user_id, agent_id, mission_id, due_at, state, reason)
VALUES ($1, 'legacy:ai-default', 'm-1', '2026-01-01'::timestamptz + $2 * interval '1 day', $3, $4)
"""


@pytest.fixture
async def scene(database: Database, tmp_path: Path) -> AsyncGenerator[Scene]:
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(open_world(database, [PLAN, DONE]))
        opened = await stack.enter_async_context(key_scene(world, tmp_path))
        world.driver = world.new_driver(key_socket=str(opened.socket_path))
        await world.driver.start()
        await push_sealed(world, {"notes": "notes"}, NOTE)
        yield opened


async def missions(house: House, user: str = "u1", **query: Any) -> Json:
    """What this person is told."""
    answered = await house.desk(user).ask("GET", PATH, params=query)
    assert answered.status_code == 200, answered.text
    return answered.json()


def client(house: House, user: str = "u1") -> MissionGrants:
    """This person's client."""
    return MissionGrants(house.client, house.auth.token(user), OwnerKeys(user, MASTER_KEY))


async def shown_grant(house: House, grant: Any) -> Json:
    """What is told of a mission's grant."""
    await house.mission(record=json.dumps({"id": "m-1", "grant": grant}))
    (mission,) = (await missions(house))["missions"]
    return mission["grant"]


async def test_an_owner_sees_why_a_mission_was_skipped_and_that_a_grant_made_it_run(
    scene: Scene, house: House
):
    world = scene.world
    await (await world.client()).mission(inputs=[REF], title="Geheim", objective="Geheim")
    await world.driver.fold_all()
    assert (await world.run()).decision == "skipped-grant"
    (skipped,) = await client(house).missions()
    run = skipped.pop("lastRun")
    assert (run["state"], run["reason"], run["iterationId"]) == ("withdrawn", NO_GRANT, None)
    assert run["endedAt"] is not None
    assert (skipped["missionId"], skipped["state"]) == ("m1", "active")
    assert (skipped["decision"], skipped["reason"]) == ("skipped-grant", NO_GRANT)
    assert skipped["decidedAt"].endswith("Z")
    assert skipped["grant"] == NO_GRANT_SHOWN

    given = granted()
    await (await world.client()).edit(grant=given)
    await world.driver.fold_all()
    await hand_over(world, given, NOTE)
    assert (await world.run()).outcome == "ran"
    (ran,) = await client(house).missions()
    assert ran["decision"] == "ran"
    assert (ran["lastRun"]["runId"], ran["lastRun"]["state"]) == (run["runId"], "committed")
    assert ran["lastRun"]["iterationId"] is not None
    assert ran["grant"] == {"state": "active", "expiresAt": given["expiresAt"], "recordCount": 1}


async def test_reasons_are_told_in_the_language_that_is_accepted_with_their_codes(house: House):
    await house.mission(decision="skipped-paused", reason="the agent is paused")
    told: dict[str, Json] = {}
    for language in ("de-DE,en;q=0.5", "fr"):
        headers = {"Accept-Language": language}
        answered = await house.desk().ask("GET", PATH, headers=headers)
        (told[language],) = answered.json()["missions"]
    german, other = told.values()
    assert (german["reason"], other["reason"]) == ("der Agent pausiert", "the agent is paused")
    assert german["decisionText"] == "wartet: Agent pausiert"
    assert german["reasonCodes"] == other["reasonCodes"] == ["agent-paused"]
    assert "Setze den Agenten fort" in german["reasonText"]


async def test_the_whole_of_a_mission_is_told_without_its_texts(house: House):
    record = {"id": "m-1", "title": "Geheim", "objective": "Geheim", "grant": None}
    await house.mission(record=json.dumps(record), agent_id="a-1", state="paused")
    answered = await house.desk().ask("GET", PATH)
    assert answered.json() == {
        "missions": [
            {
                "missionId": "m-1", "agentId": "a-1", "state": "paused", "nextRunAt": None,
                "decision": None, "decisionText": None, "reason": None, "reasonText": None,
                "reasonCodes": [], "decidedAt": None, "lookAgainAt": None,
                "lastRun": None, "liveRun": None, "grant": NO_GRANT_SHOWN,
            }
        ],
        "after": None,
    }  # fmt: skip


async def test_the_last_run_is_the_one_of_the_latest_slot(house: House):
    await house.mission()
    for day, state in ((2, "failed"), (3, "withdrawn"), (1, "committed")):
        await house.sql(RUN, "u1", day, state, f"day {day}")
    await house.sql(RUN, "u2", 4, "failed", "of somebody else")
    (mission,) = (await missions(house))["missions"]
    last = mission["lastRun"]
    assert (last["state"], last["reason"]) == ("withdrawn", "day 3")
    assert last["dueAt"].startswith("2026-01-04")


async def test_a_run_that_waits_is_told_beside_the_one_of_the_latest_slot(house: House):
    await house.mission()
    await house.sql(RUN, "u1", 3, "committed", None)
    await house.sql(RUN, "u1", 1, "waiting", "the model is busy")
    await house.sql(RUN, "u2", 2, "waiting", "of somebody else")
    await house.sql(
        "UPDATE mana_ai.runs SET waiting_for = 'back-off', not_before = '2026-01-09 07:00Z',"
        " attempt = 2 WHERE state = 'waiting'"
    )
    (mission,) = (await missions(house))["missions"]
    live = mission["liveRun"]
    assert (live["state"], live["attempt"], live["waitingFor"]) == ("waiting", 2, "back-off")
    assert (live["dueAt"][:10], live["reason"]) == ("2026-01-02", "the model is busy")
    assert live["notBefore"].startswith("2026-01-09T07:00")
    assert mission["lastRun"]["state"] == "committed"


@pytest.mark.parametrize(
    ("age_s", "state"), [(0, "active"), (8 * DAY_S, "expired"), (-DAY_S, "unreadable")]
)
async def test_a_grant_is_told_by_its_term_and_its_number_of_records(
    house: House, age_s: int, state: str
):
    grant = granted(["notes:n1", "notes:n2"], mission="m-1", age_s=age_s)
    assert await shown_grant(house, grant) == {
        "state": state, "expiresAt": grant["expiresAt"], "recordCount": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"wrappedKey": None},
        {"wrappedKey": "x" * 20_000},
        {"expiresAt": "soon"},
        {"derivation": {"recordIds": "notes:n1"}},
        {"derivation": granted(mission="m-1")["derivation"] | {"recordIds": [1]}},
        {"derivation": granted(mission="m-2")["derivation"]},
        {"issuedAt": 10**400},
    ],
    ids=range(7),
)
async def test_what_is_no_grant_of_this_mission_is_told_as_unreadable(house: House, wrong: Json):
    assert (await shown_grant(house, granted(mission="m-1") | wrong))["state"] == "unreadable"


@pytest.mark.parametrize("value", [True, 7, "grant", [], {}], ids=range(5))
async def test_a_value_that_is_no_grant_at_all_is_told_as_unreadable(house: House, value: Any):
    told = await shown_grant(house, value)
    assert told == {"state": "unreadable", "expiresAt": None, "recordCount": None}


async def test_nobody_sees_missions_of_others_or_deleted_ones(house: House):
    await house.mission("u1", "m-1")
    await house.mission("u2", "m-2")
    await house.mission("u1", "m-3", hidden=True)
    assert [one["missionId"] for one in await client(house).missions()] == ["m-1"]
    assert (await missions(house, "u3"))["missions"] == []
    assert (await missions(house, missionId="m-2"))["missions"] == []
    (own,) = (await missions(house, "u2", missionId="m-2"))["missions"]
    assert own["missionId"] == "m-2"


async def test_the_question_itself_keeps_to_its_asker_where_row_security_does_not(house: House):
    for table in ("mission_snapshots", "runs"):
        await house.sql(f"CREATE POLICY open ON mana_ai.{table} TO mana_gateway USING (true)")
    await house.mission("u1", "m-1")
    await house.mission("u2", "m-2")
    await house.sql(RUN, "u2", 1, "failed", "of somebody else")
    (mission,) = (await missions(house))["missions"]
    assert (mission["missionId"], mission["lastRun"]) == ("m-1", None)


async def test_pages_follow_each_other_without_gap_or_repeat(house: House):
    for n in range(7):
        await house.mission(mission=f"m-{n}")
    pages = [await missions(house, limit=3)]
    while (after := pages[-1]["after"]) is not None and len(pages) < 4:
        pages.append(await missions(house, limit=3, after=after))
    told = [[one["missionId"] for one in page["missions"]] for page in pages]
    assert told == [["m-0", "m-1", "m-2"], ["m-3", "m-4", "m-5"], ["m-6"]]


async def test_an_owners_client_reads_all_pages(house: House):
    many = "SELECT 'u1', 'm-' || lpad(n::text, 4, '0'), '{}' FROM generate_series(1, 230) AS n"
    await house.sql(f"INSERT INTO mana_ai.mission_snapshots (user_id, mission_id, record) {many}")
    told = [one["missionId"] for one in await client(house).missions()]
    assert told == [f"m-{n:04}" for n in range(1, 231)]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"}, {"limit": "201"}, {"limit": "x"}, {"after": ""}, {"missionId": "a\0b"},
        {"missionId": "m" * 513}, {"user": "u2"},
    ],
    ids=range(7),
)  # fmt: skip
async def test_a_wrong_question_is_400_and_names_the_field(house: House, query: dict[str, str]):
    answered = await house.desk().ask("GET", PATH, params=query)
    assert (answered.status_code, next(iter(query)) in answered.json()["error"]) == (400, True)


async def test_nobody_is_told_without_a_token_and_pages_elsewhere_may_ask(house: House):
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "GET"}
    told = await house.client.options(PATH, headers=asked)
    assert (told.status_code, told.headers["access-control-allow-origin"]) == (204, PAGE)
    refused = await house.client.get(PATH, headers={"Origin": PAGE})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == PAGE
