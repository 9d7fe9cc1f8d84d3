"""What people see of their own agents' budgets: their own rows, and nobody else's spending."""

from typing import Any

import pytest

from tests.owners import PAGE, House

pytestmark = pytest.mark.one_postgres

PATH = "/api/v1/me/ai-budget"
AGENT = """
INSERT INTO mana_ai.agent_snapshots (user_id, agent_id, record, complete, state, max_tokens_per_day)
VALUES ($1, $2, '{"name": "Geheim"}', true, 'active', $3)
"""
USED = """
INSERT INTO mana_ai.token_usage (user_id, agent_id, mission_id, tokens_used, cost_micros, ts)
VALUES ($1, $2, 'x', $3, 7, clock_timestamp() - $4 * interval '1 hour')
"""
HELD = """
INSERT INTO mana_ai.token_holds
  (user_id, agent_id, mission_id, run_id, attempt, round, tokens, deadline)
VALUES ($1, $2, 'x', gen_random_uuid(), 1, 1, $3, clock_timestamp() + interval '1 hour')
"""
LIMIT = "SELECT mana_ai.set_limit($1, $2, '', $3, NULL, true, false)"


async def budget(house: House, user: str = "u1", **query: Any) -> dict[str, Any]:
    """What this person is told."""
    answered = await house.desk(user).ask("GET", PATH, params=query)
    assert answered.status_code == 200, answered.text
    return answered.json()


async def test_an_agents_day_is_told_with_what_is_left(house: House):
    await house.sql(AGENT, "u1", "a-1", 1000)
    await house.sql(USED, "u1", "a-1", 300, 2)
    await house.sql(USED, "u1", "a-1", 5000, 25)  # a day ago and more
    await house.sql(HELD, "u1", "a-1", 100)
    told = await budget(house)
    (agent,) = told["agents"]
    assert agent.pop("backAt").endswith("Z")
    assert agent == {
        "agentId": "a-1", "cap": 1000, "capSource": "owner", "used": 300, "held": 100, "left": 600,
        "microsCap": None, "microsUsed": 7, "microsHeld": 0, "full": None,
    }  # fmt: skip
    assert (told["together"], told["after"]) == (None, None)


async def test_a_limit_on_all_agents_together_lowers_what_each_has_left(house: House):
    await house.sql(AGENT, "u1", "a-1", 1000)
    await house.sql(AGENT, "u1", "a-2", None)
    await house.sql(USED, "u1", "a-1", 300, 2)
    await house.sql(LIMIT, "user", "u1", 400)
    told = await budget(house)
    assert [(one["agentId"], one["left"]) for one in told["agents"]] == [("a-1", 100), ("a-2", 100)]
    assert (told["together"]["cap"], told["together"]["left"]) == (400, 100)


async def test_an_agent_without_any_cap_has_no_number_left(house: House):
    await house.mission(mission="m-1", agent_id="a-9")
    (agent,) = (await budget(house))["agents"]
    assert (agent["agentId"], agent["cap"], agent["left"]) == ("a-9", None, None)
    assert agent["capSource"] == "none"


async def test_what_others_spent_is_told_to_nobody(house: House):
    """A used-up limit of the installation is named, without a number that others made."""
    await house.sql(AGENT, "u1", "a-1", None)
    await house.sql(USED, "u2", "b-1", 123_457, 1)
    await house.sql(LIMIT, "installation", "", 123_000)
    answered = await house.desk().ask("GET", PATH)
    (agent,) = answered.json()["agents"]
    assert (agent["full"]["scope"], agent["full"]["unit"]) == ("installation", "tokens")
    assert (agent["used"], agent["left"], agent["cap"]) == (0, None, None)
    assert not any(number in answered.text for number in ("123457", "123000", "b-1"))


async def test_people_see_their_own_agents_only_and_no_texts(house: House):
    await house.sql(AGENT, "u1", "a-1", 5)
    await house.sql(AGENT, "u2", "a-2", 6)
    assert [one["agentId"] for one in (await budget(house, "u2"))["agents"]] == ["a-2"]
    assert (await budget(house, "u3"))["agents"] == []
    assert "Geheim" not in (await house.desk().ask("GET", PATH)).text


async def test_pages_follow_each_other_without_gap_or_repeat(house: House):
    for n in range(7):
        await house.sql(AGENT, "u1", f"a-{n}", n)
        await house.mission(mission=f"m-{n}", agent_id=f"a-{n}")
    seen: list[str] = []
    page = await budget(house, limit=3)
    while True:
        seen += [one["agentId"] for one in page["agents"]]
        if page["after"] is None:
            break
        page = await budget(house, limit=3, after=page["after"])
    assert seen == [f"a-{n}" for n in range(7)]


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "201"}, {"limit": "x"}, {"after": ""}, {"user": "u2"}]
)
async def test_a_wrong_question_is_400_and_names_the_field(house: House, query: dict[str, str]):
    answered = await house.desk().ask("GET", PATH, params=query)
    assert (answered.status_code, next(iter(query)) in answered.json()["error"]) == (400, True)


async def test_nobody_is_told_without_a_token_and_pages_elsewhere_may_ask(house: House):
    refused = await house.client.get(PATH, headers={"Origin": PAGE})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == PAGE
