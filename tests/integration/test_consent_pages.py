"""Consent over HTTP: grants as they stand, giving and revoking them, and who looked at what."""

import csv
import io
import json
import re
import uuid
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import httpx2
import pytest

from state.log.records import ENCRYPTED_PREFIX
from supervisor.custody.vaults import Caller
from supervisor.gateway.pages.owner.consent import export
from supervisor.gateway.pages.owner.consent.grants import scope_digest
from tests.integration.support import World, open_world
from tests.integration.test_owner_pages import Tab, fields_in
from tests.owners import House, open_house
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

HOSTILE = '=cmd|"><script>alert(1)</script>'
SEALED = f"{ENCRYPTED_PREFIX}aXY=.Y2lwaGVy"
GRANT = "/me/missions/m1/grant"
READ = [
    {"module": "notes", "table": "notes", "id": "n-1"},
    {"module": "notes", "table": "notes", "id": "n-2"},
    {"module": "notes", "table": "notes", "id": "n-3"},
]
RELEASE = """
INSERT INTO mana_ai.key_releases
  (release_id, user_id, agent_id, mission_id, run_id, attempt, outcome, reason, record_ids, ts,
   grant_version, expires_at)
VALUES ($1, $2, 'a-1', 'm1', $3, 1, $4, $5, $6, $7::timestamptz, 'v2', $7 + interval '7 days')
"""
LOOK = """
INSERT INTO mana_ai.decrypt_audit (user_id, mission_id, iteration_id, table_name, record_id, status,
                                   reason, run_id, attempt, release_id, ts)
SELECT user_id, mission_id, 'i-1', 'notes', $2, $3, $4, run_id, attempt, release_id, ts
  FROM mana_ai.key_releases WHERE release_id = $1
"""


class Scene:
    """Anna (u1) with a mission that reads notes of which two are sealed, and another person."""

    def __init__(self, world: World, house: House, tab: Tab, other: Tab) -> None:
        self.world, self.house, self.tab, self.other = world, house, tab, other

    async def grant(self) -> Any:
        """The grant as the log says it is."""
        async with self.house.owners.own_log.acting("u1") as own:
            (mission,) = await own.records("aiMissions", 9)
        return mission.fields.get("grant")

    async def scope(self) -> dict[str, str]:
        """What the form of the page brings back."""
        shown = await self.tab.see(GRANT)
        return dict(
            re.findall(r'type="hidden" name="(scope|exposure|days)" value="([^"]*)"', shown)
        )

    async def look(
        self,
        record: str = "n-1",
        status: str = "ok",
        *,
        user: str = "u1",
        age: timedelta = timedelta(hours=1),
        reason: str | None = None,
    ) -> None:
        """A key that left, and what its agent told of a record."""
        release, at = uuid.uuid4(), datetime.now(UTC) - age
        outcome = "refused" if status == "refused" else "released"
        listed = ["notes:n-1", "notes:n-2"]
        await self.house.sql(RELEASE, release, user, uuid.uuid4(), outcome, reason, listed, at)
        if status not in ("released", "refused"):
            await self.house.sql(LOOK, release, record, status, reason)


@pytest.fixture
async def scene(database: Database, tmp_path: Path) -> AsyncGenerator[Scene]:
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(open_world(database))
        house = await stack.enter_async_context(open_house(database, tmp_path, auth_url=None))
        assert house.owners.custody is not None
        await house.owners.custody.init(Caller("u1"))
        tabs: list[Tab] = []
        for user in ("u1", "u2"):
            assert (await house.operator("POST", "/people", {"user": user})).status_code == 201
            client = httpx2.AsyncClient(base_url=str(house.client.base_url), trust_env=False)
            tab = Tab(house, await stack.enter_async_context(client))
            await tab.sign_in(user)
            tabs.append(tab)
        device = await world.client()
        for id_, title in (("n-1", SEALED), ("n-2", SEALED), ("n-3", HOSTILE)):
            note = {"id": id_, "title": title, "content": "x"}
            await device.push("insert", id_, note, table="notes", app="notes")
        await device.agent("a-1", name=HOSTILE)
        await device.mission(title=HOSTILE, agentId="a-1", inputs=READ)
        await world.driver.fold_all()
        yield Scene(world, house, tabs[0], tabs[1])


# --- grants ---------------------------------------------------------------------------------------


async def test_a_grant_is_given_renewed_and_revoked_and_each_says_what_comes_next(scene: Scene):
    tab = scene.tab
    shown = await tab.see(GRANT)
    assert "not granted" in shown
    assert "one encrypted record" not in shown
    assert "2 encrypted records (notes), and only those" in shown
    assert "n-3" not in shown  # it is readable, so nobody has to agree to anything
    given = await tab.press(GRANT, **await scene.scope())
    assert given.headers["location"] == f"{GRANT}?done=given"
    shown = await tab.see(given.headers["location"])
    assert "Its next run opens these records." in shown
    assert "<script>" not in shown
    first = await scene.grant()
    assert first["derivation"]["recordIds"] == ["notes:n-1", "notes:n-2"]
    assert (await tab.press(GRANT, **await scene.scope())).status_code == 303
    assert (await scene.grant())["wrappedKey"] != first["wrappedKey"]
    for page in ("/me/missions/m1", "/me/agents/a-1"):
        assert "Its runs open these records, and nothing else." in await tab.see(page)
    await scene.world.driver.fold_all()
    gone = await tab.press(f"{GRANT}/revoke")
    assert "no key is handed out for this mission" in await tab.see(gone.headers["location"])
    assert await scene.grant() is None
    await scene.world.driver.fold_all()
    assert "You took it back" in await tab.see("/me/missions/m1")
    trail = [row for row in await scene.house.trail() if row[0] == "fetch"]
    assert trail == [("fetch", 200, "ai-mission-grant mission=m1")] * 2


async def test_only_what_the_page_listed_is_granted(scene: Scene):
    agreed = await scene.scope()
    device = await scene.world.client()
    await device.edit(inputs=READ[:1])
    answer = await scene.tab.press(GRANT, **agreed)
    assert answer.status_code == 409
    assert "changed meanwhile" in answer.text
    for scope in ("", "0" * 32):
        assert (await scene.tab.press(GRANT, **agreed | {"scope": scope})).status_code == 409
    assert await scene.grant() is None
    assert (await scene.tab.press(GRANT, **await scene.scope())).status_code == 303
    assert (await scene.grant())["derivation"]["recordIds"] == ["notes:n-1"]
    await device.edit(inputs=READ)
    assert "1 record that it reads is not covered" in await scene.tab.see(GRANT)


@pytest.mark.parametrize(("exposure", "days"), [("any", "30"), ("eu", "1"), ("local", "7")])
async def test_the_words_are_of_the_grant_that_is_given(scene: Scene, exposure: str, days: str):
    shown = await scene.tab.see(f"{GRANT}?exposure={exposure}&days={days}")
    assert f"({exposure})" in shown
    assert ("one day" if days == "1" else f"{days} days") in shown
    form = await scene.scope() | {"exposure": exposure, "days": days}
    assert (await scene.tab.press(GRANT, **form)).status_code == 303
    grant = await scene.grant()
    lasts = datetime.fromisoformat(grant["expiresAt"]) - datetime.fromisoformat(grant["issuedAt"])
    assert (grant["exposure"], lasts) == (exposure, timedelta(days=int(days)))


async def test_who_may_read_is_wished_on_the_missions_form_and_set_by_consent_alone(scene: Scene):
    tab, edit, mission = scene.tab, "/me/missions/m1/edit", "/me/missions/m1"
    assert "Its prompts go to:" in await tab.see(mission)
    assert "models anywhere</p>" in await tab.see(mission)
    assert fields_in(await tab.see(edit))["exposure"] == "local"
    assert (await tab.press(GRANT, **await scene.scope() | {"exposure": "eu"})).status_code == 303
    assert "models in the EU</p>" in await tab.see(mission)
    form = fields_in(await tab.see(edit))
    assert form["exposure"] == "eu"
    assert (await tab.press(edit, **form)).headers["location"] == mission
    wished = await tab.press(edit, **form | {"exposure": "any"})
    assert wished.headers["location"] == f"{GRANT}?exposure=any"
    assert (await scene.grant())["exposure"] == "eu", "nobody has agreed to it yet"
    assert fields_in(await tab.see(wished.headers["location"]))["exposure"] == "any"
    refused = await tab.press(edit, **form | {"exposure": "everyone"})
    assert refused.status_code == 422
    assert 'id="wrong-exposure"' in refused.text
    assert (await tab.press(f"{GRANT}/revoke")).status_code == 303
    assert "models anywhere</p>" in await tab.see(mission)


@pytest.mark.parametrize("wrong", [{"days": "400"}, {"days": ""}, {"exposure": "everyone"}])
async def test_a_form_that_says_something_else_grants_nothing(scene: Scene, wrong: dict[str, str]):
    answer = await scene.tab.press(GRANT, **await scene.scope() | wrong)
    assert answer.status_code == 400
    assert next(iter(wrong)) in answer.text
    assert await scene.grant() is None


async def test_how_it_stands_is_told_whatever_is_wrong_with_it(scene: Scene):
    tab, device = scene.tab, await scene.world.client()
    await tab.press(GRANT, **await scene.scope())
    good = await scene.grant()
    ended = (datetime.now(UTC) - timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    for grant, said in (
        (good | {"expiresAt": ended}, "has ended"),
        (good | {"exposure": "any"}, "cannot be used"),
        (good | {"issuerKeyId": "somebody"}, "made by somebody unknown"),
        ("nonsense", "cannot be used"),
        (good, "granted"),
    ):
        await device.edit(grant=grant)
        shown = await tab.see(GRANT)
        assert f"</i>{said}</span>" in shown, said
        assert "Understood" in shown  # and a new one can be given
    custody = scene.house.owners.custody
    assert custody is not None
    await scene.house.sql("UPDATE auth.encryption_vaults SET rotated_at = now() + interval '1 h'")
    assert "made for an older key" in await tab.see(GRANT)
    await scene.house.sql("DELETE FROM auth.encryption_vaults")
    shown = await tab.see(GRANT)
    assert "You have no vault here yet" in shown
    assert "Understood" not in shown
    answer = await tab.press(GRANT, scope="x", exposure="local", days="7")
    assert answer.status_code == 409
    await custody.init(Caller("u1"))
    while not scene.house.owners.pacing.wait_s("u1"):
        continue  # until nothing more is allowed just now
    answer = await tab.press(GRANT, **await scene.scope())
    assert answer.status_code == 429
    assert "try again in" in answer.text


async def test_a_key_that_is_on_devices_alone_is_granted_from_there(scene: Scene):
    await scene.house.sql(
        "UPDATE auth.encryption_vaults SET zero_knowledge = true, wrapped_mk = NULL,"
        " wrap_iv = NULL, recovery_wrapped_mk = 'x', recovery_iv = 'y', recovery_set_at = now()"
    )
    shown = await scene.tab.see(GRANT)
    assert "Your key is on your devices alone" in shown
    assert "Understood" not in shown
    scope = scope_digest(frozenset({("notes", "n-1"), ("notes", "n-2")}))
    answer = await scene.tab.press(GRANT, exposure="local", days="7", scope=scope)
    assert answer.status_code == 409
    assert await scene.grant() is None


async def test_nobody_sees_gives_or_revokes_the_grant_of_anothers_mission(scene: Scene):
    agreed = await scene.scope()
    await scene.tab.press(GRANT, **agreed)
    before = await scene.grant()
    await scene.other.see(GRANT, 404)
    assert (await scene.other.press(GRANT, **agreed)).status_code == 404
    assert (await scene.other.press(f"{GRANT}/revoke")).status_code == 404
    assert await scene.grant() == before
    anothers = before | {"derivation": before["derivation"] | {"userId": "u2"}}
    await (await scene.world.client()).edit(grant=anothers)
    assert "cannot be used" in await scene.tab.see(GRANT)


# --- data access ----------------------------------------------------------------------------------


async def test_who_read_my_note_is_two_clicks_from_home(scene: Scene):
    await scene.look("n-1")
    await scene.look("n-3")
    home = await scene.tab.see("/me")
    assert 'href="/me/access"' in home
    shown = await scene.tab.see("/me/access")
    link = "/me/access?record=notes%3An-1"
    assert f'href="{link}"' in shown
    assert "<script>" not in shown
    assert "note, sealed" in shown  # what is readable is called by its name, all else is not
    assert "&lt;script&gt;" in shown
    shown = await scene.tab.see(link)
    assert shown.count("<tr data-key") == 1
    assert "until" in shown


async def test_filters_leave_what_they_say(scene: Scene):
    await scene.look("n-1", age=timedelta(days=3))
    await scene.look("n-2", "failed", reason="decrypt-failed")
    await scene.look("n-3", "scope-violation", reason="record-not-in-grant-allowlist")
    await scene.look(status="released", age=timedelta(hours=5))
    await scene.look(status="refused", reason="expired")
    await scene.look("n-1", user="u2")
    today = datetime.now(ZoneInfo("Europe/Berlin"))  # whose days the page counts
    day = f"{today - timedelta(days=2):%Y-%m-%d}"
    for filters, rows in (
        ("", 5),
        ("?agent=&mission=&outcome=&from=&to=", 5),
        ("?agent=a-1", 5),
        ("?agent=a-2", 0),
        ("?mission=m1", 5),
        ("?mission=m2", 0),
        ("?outcome=read", 1),
        ("?outcome=not-opened", 1),
        ("?outcome=outside", 1),
        ("?outcome=silent", 1),
        ("?outcome=no-key", 1),
        ("?record=notes:n-3", 1),
        ("?record=notes:n-1", 3),  # a key without a word may have opened it, or was asked for it
        (f"?from={day}", 4),
        (f"?to={day}", 1),
        (f"?from={day}&to={day}", 0),
    ):
        shown = await scene.tab.see(f"/me/access{filters}")
        assert shown.count("<tr data-key") == rows, filters
    for wrong in ("?outcome=x", "?record=n-1", "?from=soon", "?to=9999-12-31", "?before=x", "?x=1"):
        await scene.tab.see(f"/me/access{wrong}", 400)


async def test_violations_stand_on_top_in_words(scene: Scene):
    await scene.look("n-3", "scope-violation", reason="record-not-in-grant-allowlist")
    await scene.look(status="released", age=timedelta(minutes=1))  # a run that is still at it
    shown = await scene.tab.see("/me/access")
    top, _, _ = shown.partition("Looks at records")
    assert "Needs a look" in top
    assert "outside of the grant" in top
    assert "the grant does not list this record" in top
    assert "key without a word" not in top
    await scene.look(status="released", age=timedelta(minutes=20))
    top, _, _ = (await scene.tab.see("/me/access")).partition("Looks at records")
    assert "a key was handed out, and nobody told what it opened" in top
    assert "Needs a look" not in await scene.other.see("/me/access")


async def test_pages_and_files_hold_every_row_once(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    for number in range(7):
        await scene.look(f"n-{number}", age=timedelta(minutes=number // 2))
    monkeypatch.setattr("supervisor.gateway.pages.owner.consent.access.ROWS", 3)
    monkeypatch.setattr(export, "BATCH", 2)
    seen, path = list[str](), "/me/access"
    while path:
        shown = await scene.tab.see(path)
        seen += re.findall(r'<tr data-key="a-(\d+)"', shown)
        older = re.search(r'href="(/me/access\?before=[^"]*)">Older', shown)
        path = older[1] if older else ""
    assert len(seen) == len(set(seen)) == 7
    told = json.loads((await scene.tab.client.get("/me/access/export.json")).text)
    assert len({row["recordId"] for row in told["rows"]}) == 7
    assert told["isWhole"]
    assert told["rows"][0]["grantEndsAt"]
    answer = await scene.tab.client.get("/me/access/export.csv?record=notes:n-5")
    assert answer.headers["content-disposition"].startswith('attachment; filename="data-access-')
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert (row["recordId"], row["outcome"]) == ("n-5", "read")
    assert row["mission"] == row["agent"] == f"'{HOSTILE}"  # no spreadsheet computes it
    monkeypatch.setattr(export, "MOST", 4)
    told = json.loads((await scene.tab.client.get("/me/access/export.json")).text)
    assert (len(told["rows"]), told["isWhole"]) == (4, False)
    text = (await scene.tab.client.get("/me/access/export.csv")).text
    assert text.count("\r\n") == 6
    assert "more than 4 rows" in text
    nobody = await scene.other.client.get("/me/access/export.json")
    assert json.loads(nobody.text)["rows"] == []


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_cell_is_a_formula(start: str):
    assert export.cell(f"{start}1+1") == f"'{start}1+1"
    assert export.cell(["=a", "b"]) == "'=a b"
    assert export.cell("plain = text") == "plain = text"
    assert (export.cell(None), export.cell(7)) == ("", "7")


async def test_german_reads_as_german(scene: Scene):
    await scene.look("n-1")
    await scene.look("n-3", "scope-violation", reason="record-not-in-grant-allowlist")
    scene.tab.client.cookies.set("mana_language", "de")
    shown = await scene.tab.see("/me/access")
    assert "Datenzugriff" in shown
    assert "die Freigabe nennt diesen Eintrag nicht" in shown
    assert "Diese Mission darf 2 verschlüsselte Einträge" in await scene.tab.see(GRANT)
    assert quote("notes:n-1", safe="") in shown


async def test_inputs_that_change_while_the_key_is_lent_are_not_granted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    custody, device = scene.house.owners.custody, await scene.world.client()
    assert custody is not None
    lent = custody.lent

    async def lent_late(*given: Any) -> Any:
        await device.edit(inputs=READ[1:])
        return await lent(*given)

    monkeypatch.setattr(custody, "lent", lent_late)
    answer = await scene.tab.press(GRANT, **await scene.scope())
    assert answer.status_code == 409
    assert await scene.grant() is None
