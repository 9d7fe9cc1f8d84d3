"""Owners' pages over HTTP: who sees them, what their forms do, and what is only ever text."""

import html
import json
import re
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from html.parser import HTMLParser
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


class _Fields(HTMLParser):
    """What a browser would send of the one form on a page that fills it."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self._is_in, self._select, self._text = False, "", ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A field, where it is one of the form's."""
        of = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._is_in = "block" in of.get("class", "").split()
        if not self._is_in:
            return
        name = of.get("name", "")
        if tag == "input" and name != "seal" and (of.get("type") != "checkbox" or "checked" in of):
            self.fields[name] = of.get("value", "on")
        elif tag == "select":
            self._select = name
        elif tag == "option" and ("selected" in of or self._select not in self.fields):
            self.fields[self._select] = of["value"]
        elif tag == "textarea":
            self._text = name
            self.fields[name] = ""

    def handle_endtag(self, tag: str) -> None:
        """The end of a text, which begins behind a line end."""
        if tag == "textarea" and self._text:
            text = self.fields[self._text].replace("\r\n", "\n").removeprefix("\n")
            self.fields[self._text], self._text = text.replace("\n", "\r\n"), ""

    def handle_data(self, data: str) -> None:
        """Part of a text."""
        if self._text:
            self.fields[self._text] += data


def fields_in(page: str) -> dict[str, str]:
    found = _Fields()
    found.feed(page)
    return found.fields


async def filled(tab: Tab, path: str) -> dict[str, str]:
    return fields_in(await tab.see(path))


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
    form = await filled(tab, "/me/missions/m1/edit")
    form |= {"title": "Woche", "objective": "x", "how": "weekly", "time": "07:00", "day.mon": "on"}
    assert (await tab.press("/me/missions/m1/edit", **form)).status_code == 303
    shown = await tab.see("/me/missions/m1")
    assert "<h1>Woche</h1>" in shown
    assert "Mondays at 07:00" in shown
    wrong = await tab.press("/me/missions/m1/edit", **{**form, "how": "cron", "cron": "now"})
    assert wrong.status_code == 422
    assert 'id="wrong-cadence"' in wrong.text
    tab.client.cookies.set("mana_language", "de")
    wrong = await tab.press("/me/missions/m1/edit", **{**form, "missedRuns": "x"})
    assert "muss einer der Werte sein, die hier bekannt sind" in wrong.text
    tab.client.cookies.delete("mana_language")
    agent = f"/me/agents/{quote(AGENT, safe='')}"
    assert (await tab.press(f"{agent}/policy", **{"tool.create_task": "deny"})).status_code == 303
    assert (await tab.press(f"{agent}/policy", **{"tool.create_task": "x"})).status_code == 400
    await world.driver.fold_all()
    policy = await world.value(
        "SELECT record -> 'policy' -> 'tools' ->> 'create_task' FROM mana_ai.agent_snapshots"
    )
    assert policy == "deny"


async def test_a_change_from_elsewhere_is_shown_before_it_is_written_over(
    scene: tuple[World, Tab, Tab],
):
    world, tab, _ = scene
    edit, client = "/me/missions/m1/edit", await world.client()
    form = await filled(tab, edit) | {"title": "Von hier", "missedRuns": "none"}
    await client.edit(title="Vom Handy", objective="Vom Handy auch")
    refused = await tab.press(edit, **form)
    assert refused.status_code == 412
    assert "It is now: Vom Handy" in refused.text
    assert 'value="Von hier"' in refused.text
    assert "Vom Handy auch" in refused.text
    await world.driver.fold_all()
    assert (await world.record())["title"] == "Vom Handy"
    assert (await tab.press(edit, **fields_in(refused.text))).status_code == 303
    await world.driver.fold_all()
    record = await world.record()
    assert (record["title"], record["objective"]) == ("Von hier", "Vom Handy auch")
    assert record["missedRuns"] == "none"


async def test_only_what_was_changed_is_written(scene: tuple[World, Tab, Tab]):
    world, tab, _ = scene
    client = await world.client()
    await client.edit(
        objective="Zwei\r\nZeilen", cadence={"kind": "interval", "everyMinutes": 90.5}
    )
    form = await filled(tab, "/me/missions/m1/edit")
    assert form["how"] == "as-it-is"
    rows = (
        "FROM public.sync_changes WHERE client_id = 'mana-api' AND NOT data::jsonb ? 'iterations'"
    )
    assert (await tab.press("/me/missions/m1/edit", **form)).status_code == 303
    assert await world.value(f"SELECT count(*) {rows}") == 0
    await client.edit(objective="Vom Handy")
    form |= {"objective": "Zwei\r\nZeilen", "title": "Neu"}
    assert (await tab.press("/me/missions/m1/edit", **form)).status_code == 303
    assert json.loads(await world.value(f"SELECT data::text {rows}")) == {"title": "Neu"}


async def test_an_agent_is_made_once_and_changed_where_it_was_not_changed_elsewhere(
    scene: tuple[World, Tab, Tab],
):
    world, tab, other = scene
    new = "/me/agents/new"
    form = await filled(tab, f"{new}?template=planner")
    assert form["name"] == "Planner"
    taken = await tab.press(new, **(form | {"name": HOSTILE, "module.todo": "deny"}))
    assert taken.status_code == 422
    assert 'id="wrong-name"' in taken.text
    assert fields_in(taken.text)["module.todo"] == "deny"
    for wrong in ({"name": " "}, {"role": "x" * 501}, {"module.todo": "x"}, {"key": "x"}):
        assert (await tab.press(new, **(form | wrong))).status_code in (400, 422), wrong
    for _ in range(2):
        made = await tab.press(new, **(form | {"module.todo": "deny"}))
        assert made.headers["location"] == f"/me/agents/{form['key']}"
    await world.driver.fold_all()
    policy = await world.value(
        "SELECT record -> 'policy' -> 'tools' ->> 'create_task' FROM mana_ai.agent_snapshots"
        " WHERE record ->> 'name' = 'Planner'"
    )
    assert policy == "deny"
    edit = f"/me/agents/{quote(AGENT, safe='')}/edit"
    form = await filled(tab, edit) | {"name": "Von hier", "maxConcurrentMissions": "3"}
    await (await world.client()).edit(AGENT, table="agents", name="Vom Handy", role="Vom Handy")
    refused = await tab.press(edit, **form)
    assert refused.status_code == 412
    assert "It is now: Vom Handy" in refused.text
    told = fields_in(refused.text)
    assert (told["name"], told["role"]) == ("Von hier", "Vom Handy")
    assert (await tab.press(edit, **(told | {"name": "x" * 501}))).status_code == 422
    assert (await tab.press(edit, **told)).status_code == 303
    rows = (
        "SELECT data::text FROM public.sync_changes WHERE client_id = 'mana-api' AND op = 'update'"
    )
    assert json.loads(await world.value(f"{rows} AND record_id = $1", AGENT)) == {
        "name": "Von hier",
        "maxConcurrentMissions": 3,
    }
    for said, cap in (("5000", 5000), ("", None)):
        form = await filled(tab, edit) | {"maxTokensPerDay": said}
        wrong = await tab.press(edit, **(form | {"maxTokensPerDay": "viele"}))
        assert wrong.status_code == 422
        assert 'id="wrong-maxTokensPerDay"' in wrong.text
        assert (await tab.press(edit, **form)).status_code == 303
        newest = f"{rows} AND record_id = $1 ORDER BY created_at DESC LIMIT 1"
        assert json.loads(await world.value(newest, AGENT)) == {"maxTokensPerDay": cap}
    await (await world.client()).edit(AGENT, table="agents", maxTokensPerDay=9)
    form = await filled(tab, edit) | {"maxTokensPerDay": "7"}
    await (await world.client()).edit(AGENT, table="agents", maxTokensPerDay=None)
    assert "It is now: —" in (await tab.press(edit, **form)).text
    await other.see(edit, 404)
    assert (await other.press(edit, **told)).status_code == 404


async def test_inputs_are_found_by_title_among_ones_own_and_a_sealed_one_asks_for_consent(
    scene: tuple[World, Tab, Tab],
):
    world, tab, other = scene
    mine, theirs = await world.client(), await world.client("u2")
    notes = {"n1": {"title": "Budget"}, "n2": {"title": "enc:1:abc"}, "n3": {"title": "Holiday"}}
    for id_, fields in notes.items():
        await mine.push("insert", id_, fields, app="notes", table="notes")
    await theirs.push("insert", "n9", {"title": "Budget of u2"}, app="notes", table="notes")
    edit = "/me/missions/m1/edit"
    form = await filled(tab, edit) | {"module": "notes", "words": "budget"}
    found = (await tab.press(edit, **form)).text  # the enter key in the search field
    assert "Budget" in found
    assert "Budget of u2" not in found
    assert "Holiday" not in found
    form = fields_in(found) | {"add.notes:n1": "on", "words": "", "find": "1"}
    found = (await tab.press(edit, **form)).text
    assert "note, sealed" in found
    assert fields_in(found)["in.0"] == "on"
    strange = await tab.press(edit, **(fields_in(found) | {"add.notes:n9": "on"}))
    assert strange.status_code == 422
    assert "there is no such record in notes" in strange.text
    saved = await tab.press(edit, **(fields_in(found) | {"add.notes:n2": "on"}))
    assert saved.headers["location"] == "/me/missions/m1/grant"
    await world.driver.fold_all()
    assert [one["id"] for one in (await world.record())["inputs"]] == ["n1", "n2"]
    form = await filled(tab, edit)
    del form["in.1"]
    assert (await tab.press(edit, **form)).headers["location"] == "/me/missions/m1"
    await world.driver.fold_all()
    assert [one["id"] for one in (await world.record())["inputs"]] == ["n1"]
    for broken in ("[", "[[1]]", '[["a"]]'):
        assert (await tab.press(edit, **{**form, "chosen": broken})).status_code == 400
    await other.see(edit, 404)
    assert (await other.press(edit, **form)).status_code == 404


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
