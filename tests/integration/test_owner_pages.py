"""Owners' pages over HTTP: who sees them, what their forms do, and what is only ever text."""

import html
import re
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import httpx2
import pytest

from supervisor.gateway.pages.owner.routes import PAGES
from tests.inbox import TASK, call, plan, records
from tests.integration.support import World, open_world
from tests.owners import House, open_house
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

HOSTILE = '"><script>alert(1)</script>'
AGENT = "a:<b>/1"
ONES_OWN = {"agent": quote(AGENT, safe=""), "mission": "m1"}
EVENT = call(1, "complete_task", taskId="t-gone")


class Tab:
    """A browser of somebody who signed in by a link."""

    def __init__(self, house: House, client: httpx2.AsyncClient) -> None:
        self.house, self.client = house, client

    @property
    def origin(self) -> str:
        return str(self.client.base_url).rstrip("/")

    async def sign_in(self, user: str = "u1") -> httpx2.Response:
        """Use a fresh link up."""
        link = (await self.house.operator("POST", f"/people/{user}/link")).json()["link"]
        form = {"link": link.rpartition("link=")[2]}
        return await self.client.post("/sign-in", data=form, headers={"Origin": self.origin})

    async def see(self, path: str, status: int = 200) -> str:
        """A page."""
        answer = await self.client.get(path, headers={"Accept": "text/html"})
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"].startswith("text/html")
        return answer.text

    async def press(self, path: str, **fields: str) -> httpx2.Response:
        """A form of one's own page; `seal` and `origin` may be another's."""
        found = re.search('name="seal" value="([^"]*)"', await self.see("/me"))
        assert found is not None
        origin = fields.pop("origin", self.origin)
        form = {"seal": found[1], **fields}
        return await self.client.post(path, data=form, headers={"Origin": origin})


@pytest.fixture
async def scene(database: Database, tmp_path: Path) -> AsyncGenerator[tuple[World, Tab, Tab]]:
    """A person with an agent and a mission with a plan, her browser, and another person's."""
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(open_world(database))
        house = await stack.enter_async_context(open_house(database, tmp_path, auth_url=None))
        tabs: list[Tab] = []
        for user in ("u1", "u2"):
            assert (await house.operator("POST", "/people", {"user": user})).status_code == 201
            client = httpx2.AsyncClient(base_url=str(house.client.base_url), trust_env=False)
            tab = Tab(house, await stack.enter_async_context(client))
            assert (await tab.sign_in(user)).headers["location"] == "/me"
            tabs.append(tab)
        client = await world.client()
        await client.agent(AGENT, name=HOSTILE, role=HOSTILE)
        await client.mission(title=HOSTILE, agentId=AGENT, iterations=[plan(TASK, EVENT)])
        await world.driver.fold_all()
        yield world, tabs[0], tabs[1]


async def waiting(tab: Tab, tool: str = "create_task") -> str:
    shown = await tab.see("/me/inbox")
    rows = await tab.house.sql(
        "SELECT proposal_id::text AS id FROM mana_ai.proposals WHERE tool = $1", tool
    )
    (id_,) = [row["id"] for row in rows]
    assert f'id="p-{id_}"' in shown
    return id_


async def test_what_others_wrote_is_text_on_every_page(scene: tuple[World, Tab, Tab]):
    _, tab, _ = scene
    agent = f"/me/agents/{quote(AGENT, safe='')}"
    for path in ("/me", "/me/inbox", "/me/agents", agent, "/me/missions/m1", "/me/settings"):
        shown = await tab.see(path)
        assert "<script>" not in shown
        assert path == "/me/settings" or "&lt;script&gt;" in shown
        assert '<html lang="en"' in shown
    tab.client.cookies.set("mana_language", "de")
    assert '<html lang="de"' in await tab.see("/me")
    assert "Eingang" in await tab.see("/me/inbox")


async def test_nobody_sees_or_does_anything_of_anothers(scene: tuple[World, Tab, Tab]):
    world, tab, other = scene
    id_ = await waiting(tab)
    agent = f"/me/agents/{quote(AGENT, safe='')}"
    for path in (agent, "/me/missions/m1"):
        assert "&lt;script&gt;" not in await other.see(path, 404)
    for path in (f"/me/inbox/{id_}/approve", f"/me/inbox/{id_}/undo", f"{agent}/pause"):
        assert (await other.press(path)).status_code == 404
    for verb in ("pause", "run", "edit"):
        assert (await other.press(f"/me/missions/m1/{verb}", title="x")).status_code == 404
    mine = await tab.house.sql("SELECT sign_in_id FROM mana_ai.sign_ins WHERE user_id = 'u1'")
    path = f"/me/sign-ins/{mine[0]['sign_in_id']}/end"
    assert (await other.press(path)).status_code == 404
    await tab.see("/me")
    assert await records(world, "tasks") == {}
    for strange in ("/me/missions/..%2f..%2fetc", "/me/agents/%00", "/me/nothing"):
        answer = await tab.client.get(strange, headers={"Accept": "text/html"})
        assert answer.status_code in (400, 404)
        assert answer.headers["content-type"].startswith("text/html")


async def test_every_page_asks_who_looks_and_every_form_whose_page_it_is_on(
    scene: tuple[World, Tab, Tab],
):
    _, tab, other = scene
    strange = {"Origin": "http://elsewhere"}
    async with httpx2.AsyncClient(base_url=tab.origin, trust_env=False) as nobody:
        for verb, path, _, _ in PAGES:
            at = re.sub(r"{(\w+)}", lambda part: ONES_OWN.get(part[1], "x"), path)
            signed_out = await nobody.request(verb, at, headers={"Accept": "text/html"})
            assert signed_out.status_code == 401, at
            assert HOSTILE not in html.unescape(signed_out.text)
            if verb == "POST":
                assert (await tab.press(at, seal="")).status_code == 403, at
                assert (await tab.press(at, origin="http://elsewhere")).status_code == 403, at
                answer = await tab.client.post(at, headers=strange)
                assert answer.status_code in (401, 403), at
            elif at != path:
                assert "&lt;script&gt;" not in await other.see(at, 404), at


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 303),
        ({"seal": ""}, 403),
        ({"seal": "0" * 64}, 403),
        ({"origin": "http://elsewhere"}, 403),
        ({"origin": "null"}, 403),
    ],
)
async def test_only_a_form_of_ones_own_page_counts(
    scene: tuple[World, Tab, Tab], fields: dict[str, str], status: int
):
    world, tab, _ = scene
    id_ = await waiting(tab)
    assert (await tab.press(f"/me/inbox/{id_}/approve", **fields)).status_code == status
    assert len(await records(world, "tasks")) == (status == 303)


async def test_the_seal_of_another_session_counts_for_nothing(scene: tuple[World, Tab, Tab]):
    _, tab, other = scene
    found = re.search('name="seal" value="([^"]*)"', await other.see("/me"))
    assert found is not None
    assert (await tab.press("/me/missions/m1/pause", seal=found[1])).status_code == 403


async def test_an_answer_is_carried_out_shown_and_taken_back(scene: tuple[World, Tab, Tab]):
    world, tab, _ = scene
    id_, gone = await waiting(tab), await waiting(tab, "complete_task")
    answer = await tab.press(f"/me/inbox/{id_}/edit", **{"p.title": "Milch", "p.priority": "high"})
    assert answer.headers["location"] == f"/me/inbox?done={id_}"
    (task,) = (await records(world, "tasks")).values()
    assert (task["title"], task["priority"]) == ("Milch", "high")
    shown = await tab.see(answer.headers["location"])
    assert f'action="/me/inbox/{id_}/undo"' in shown
    assert (await tab.press(f"/me/inbox/{id_}/undo")).status_code == 303
    assert await records(world, "tasks") == {}
    late = await tab.press(f"/me/inbox/{id_}/approve")
    assert (late.status_code, 'role="alert"' in late.text) == (409, True)
    path = f"/me/inbox/{gone}/reject"
    assert (await tab.press(path, feedback="Später", back="//evil")).status_code == 303
    assert "Später" in await tab.see("/me/missions/m1")


async def test_a_mission_and_an_agent_change_by_form_and_say_what_is_wrong(
    scene: tuple[World, Tab, Tab],
):
    world, tab, _ = scene
    await tab.see("/me")
    form = {"title": "Woche", "objective": "x", "every": "mon 07:00"}
    assert (await tab.press("/me/missions/m1/edit", **form)).status_code == 303
    shown = await tab.see("/me/missions/m1")
    assert "<h1>Woche</h1>" in shown
    assert "Mondays at 07:00" in shown
    wrong = await tab.press("/me/missions/m1/edit", title="Woche", every="now and then")
    assert wrong.status_code == 422
    assert "every must be" in wrong.text
    stale = await tab.press("/me/missions/m1/edit", title="Alt", version="x")
    assert stale.status_code == 412
    agent = f"/me/agents/{quote(AGENT, safe='')}"
    assert (await tab.press(f"{agent}/policy", **{"tool.create_task": "deny"})).status_code == 303
    assert (await tab.press(f"{agent}/policy", **{"tool.create_task": "x"})).status_code == 400
    await world.driver.fold_all()
    policy = await world.value(
        "SELECT record -> 'policy' -> 'tools' ->> 'create_task' FROM mana_ai.agent_snapshots"
    )
    assert policy == "deny"


async def test_a_first_mission_is_made_with_its_agent_once_and_keeps_what_was_typed(
    scene: tuple[World, Tab, Tab],
):
    world, tab, other = scene
    assert "/me/missions/new?template=planner" in await other.see("/me")
    shown = await other.see("/me/missions/new?template=planner")
    assert 'value="Plan my week"' in shown
    found = re.search('name="key" value="([^"]+)"', shown)
    assert found is not None
    new = {"who": "new:planner", "title": HOSTILE, "how": "weekly", "time": "07:30"}
    new |= {"day.mon": "on", "day.thu": "on", "key": found[1]}
    preview = await other.press("/me/missions/new", **new, preview="1")
    assert preview.status_code == 200
    assert preview.text.count("07:30</time>") == 5
    assert html.escape(HOSTILE, quote=False).replace('"', "&#34;") in preview.text
    for wrong in ({"time": "x"}, {"title": " "}, {"who": "new:nobody"}, {"missedRuns": "x"}):
        refused = await other.press("/me/missions/new", **{**new, **wrong})
        assert refused.status_code == 422, wrong
        assert ('aria-invalid="true"' in refused.text, found[1] in refused.text) == (True, True)
    theirs = await other.press("/me/missions/new", **{**new, "who": f"agent:{AGENT}"})
    assert theirs.status_code == 422
    assert (await other.press("/me/missions/new")).status_code == 422
    assert (await other.press("/me/missions/new", **{**new, "key": "x"})).status_code == 400
    for _ in range(2):
        made = await other.press("/me/missions/new", **new)
        assert made.headers["location"] == f"/me/missions/{found[1]}"
    await world.driver.fold_all()
    more = {**new, "who": f"agent:{AGENT}", "key": str(uuid4())}
    for _ in range(2):
        assert (await tab.press("/me/missions/new", **more)).status_code == 303
    await world.driver.fold_all()
    made = await world.value(
        "SELECT array_agg(user_id ORDER BY user_id)::text FROM mana_ai.mission_snapshots"
        " WHERE record ->> 'agentId' IS NOT NULL AND mission_id <> 'm1'"
    )
    assert made == "{u1,u2}"


async def test_a_sign_in_that_ended_sees_nothing_and_a_new_one_replaces_the_old(
    scene: tuple[World, Tab, Tab],
):
    _, tab, _ = scene
    before = dict(tab.client.cookies)
    await tab.sign_in()
    assert dict(tab.client.cookies) != before
    (old,) = (name for name in before if name.startswith("mana_person_"))
    stolen = {"Cookie": f"{old}={before[old]}"}
    async with httpx2.AsyncClient(base_url=str(tab.client.base_url), trust_env=False) as thief:
        assert (await thief.get("/me", headers=stolen)).status_code == 401
    signed = dict(tab.client.cookies)
    assert (await tab.press("/me/sign-out")).status_code == 303
    tab.client.cookies.update(signed)
    assert "mana people link" in await tab.see("/me", 401)


async def test_a_cookie_of_a_host_alone_counts_and_one_of_another_name_does_not(
    scene: tuple[World, Tab, Tab],
):
    _, tab, _ = scene
    ((name, value),) = dict(tab.client.cookies).items()
    for kept, status in ((name, 200), (f"__Host-{name}", 200), ("other", 401)):
        async with httpx2.AsyncClient(base_url=str(tab.client.base_url), trust_env=False) as client:
            answer = await client.get("/me", headers={"Cookie": f"{kept}={value}"})
            assert answer.status_code == status


async def test_pages_are_framed_by_nobody_and_load_only_what_is_ours(
    scene: tuple[World, Tab, Tab],
):
    _, tab, _ = scene
    answer = await tab.client.get("/me")
    policy = answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-frame-options"] == "DENY"
    assert set(re.findall(r'(?:src|href)="(?!/|#)([^"]*)"', answer.text)) == set()
    size = len(answer.content)
    for path in re.findall(r'(?:src|href)="(/assets/[^"]*)"', answer.text):
        loaded = await tab.client.get(path.replace("&amp;", "&"))
        assert loaded.status_code == 200
        size += len(loaded.content)
    assert size <= 60_000
    assert (await tab.client.get("/assets/..%2fpage.py")).status_code in (400, 404)
    script = (await tab.client.get("/assets/page.js")).text
    assert len(script.splitlines()) <= 300
