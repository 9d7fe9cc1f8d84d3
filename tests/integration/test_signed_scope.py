"""What was signed holds, whatever the mission's own copy of the grant says (P7)."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from mana_actors.llm.client import HttpProvider
from mana_actors.llm.router.settings import AliasFile
from mana_actors.messages import Report
from state.rules.exposure import Exposure
from tests.fake_provider import FakeProvider
from tests.integration.granted_scene import (
    Records,
    exposures,
    granted,
    hand_over,
    listing,
    prompts,
    push_sealed,
)
from tests.integration.key_scene import DAY_S, Scene, key_scene, trust
from tests.integration.support import DONE, PLAN, Json, World, open_world
from tests.postgres import Database
from tests.router_parts import RunningRouter, alias_file

NOTES: Records = {
    ("notes", "n1"): {"id": "n1", "title": "Einkauf", "content": "Erdbeerkuchen-7f3a"},
    ("notes", "n2"): {"id": "n2", "title": "Tagebuch", "content": "Geheimnis-91bc"},
}
ONE: Records = {("notes", "n1"): NOTES["notes", "n1"]}
pytestmark = pytest.mark.one_postgres

REFS: list[Json] = [{"module": "notes", "table": "notes", "id": id_} for id_ in ("n1", "n2")]
REWRAPPED = "wrapped-for-another-key-or-tampered"
APPS = {"notes": "notes"}


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[World]:
    async with open_world(database, [PLAN, DONE]) as opened:
        yield opened


@pytest.fixture
async def scene(world: World, tmp_path: Path) -> AsyncGenerator[Scene]:
    async with key_scene(world, tmp_path) as opened:
        await with_keys(opened)
        yield opened


@pytest.fixture
async def lenient(world: World, tmp_path: Path) -> AsyncGenerator[Scene]:
    """A key holder that takes unsigned grants too."""
    async with key_scene(world, tmp_path, trust(accept_v1=True)) as opened:
        await with_keys(opened)
        yield opened


async def with_keys(scene: Scene, **settings: Any) -> None:
    """Agents that know this key holder."""
    scene.world.driver = scene.world.new_driver(key_socket=str(scene.socket_path), **settings)
    await scene.world.driver.start()


async def granting(scene: Scene, grant: Json, *, records: Records = ONE, **mission: Any) -> None:
    """A mission with this grant and these records as inputs, folded; copies handed over."""
    await push_sealed(scene.world, APPS, records)
    refs = [ref for ref in REFS if ("notes", ref["id"]) in records]
    await (await scene.world.client()).mission(inputs=refs, grant=grant, **mission)
    await scene.world.driver.fold_all()


async def assert_refused(scene: Scene, report: Report, detail: str) -> None:
    """No key left, nothing was decrypted, no prompt was sent, and the owner hears of it."""
    assert (report.outcome, report.decision) == ("skip", "skipped-grant")
    assert await scene.outcomes() == [("refused", detail)]
    assert await scene.world.sql("SELECT * FROM mana_ai.decrypt_audit") == []
    assert scene.world.provider.requests == []


# --- scope --------------------------------------------------------------------------------------


async def test_a_grant_that_lists_more_than_was_signed_opens_nothing(scene: Scene):
    signed = granted()
    await granting(scene, listing(signed, "notes:n2"), records=NOTES)
    await hand_over(scene.world, signed, NOTES)
    await assert_refused(scene, await scene.world.run(), "signature-rejected")


async def test_what_the_signed_scope_does_not_list_is_not_opened(scene: Scene):
    """The run goes by an edited list while the key holder sees the grant that was signed.

    The copy beyond the scope is sealed under the very key that was released, so only the check
    against the signed scope keeps it shut.
    """
    world, signed = scene.world, granted()
    await granting(scene, listing(signed, "notes:n2"), records=NOTES)
    await hand_over(world, signed, NOTES)
    await (await world.client()).edit(grant=signed)  # in the log, not folded
    report = await world.run()
    assert (report.outcome, report.decision) == ("skip", "skipped-grant")
    assert "does not cover" in report.reason
    assert world.provider.requests == []
    rows = await world.sql("SELECT record_id, status, reason FROM mana_ai.decrypt_audit ORDER BY 1")
    assert [tuple(row) for row in rows] == [
        ("n1", "ok", None),
        ("n2", "scope-violation", "record-not-in-grant-allowlist"),
    ]
    counted = {(count.name, count.labels): count.value for count in report.counts}
    assert counted["grant_scope_violations_total", ("notes",)] == 1
    assert counted["decrypts_total", ("notes",)] == 2


async def test_a_grant_that_covers_less_than_the_mission_asks_no_key(scene: Scene):
    """The owner added an input after the consent: no violation, and no alert."""
    await granting(scene, granted(), records=NOTES)
    await hand_over(scene.world, granted(), NOTES)
    report = await scene.world.run()
    assert (report.outcome, report.decision) == ("skip", "skipped-grant")
    names = {count.name for count in report.counts}
    assert "grant_skips_total" in names
    assert "grant_scope_violations_total" not in names
    assert await scene.releases() == []


# --- exposure -----------------------------------------------------------------------------------


@pytest.mark.parametrize("edited", ["any", "eu", None, "left-out"])
async def test_an_edited_exposure_opens_nothing(scene: Scene, edited: str | None):
    signed = granted()
    given = signed | {"exposure": edited}
    if edited == "left-out":
        del given["exposure"]
    await granting(scene, given)
    await hand_over(scene.world, signed, ONE)
    report = await scene.world.run()
    assert report.decision == "skipped-grant"
    ((outcome, detail),) = await scene.outcomes()
    assert (outcome, detail in ("signature-rejected", "not-a-grant")) == ("refused", True)
    assert scene.world.provider.requests == []


async def test_a_wider_exposure_in_the_missions_copy_is_lowered_to_the_signed_one(scene: Scene):
    """The run goes by an edited exposure while the key holder sees the grant that was signed."""
    world, signed = scene.world, granted(exposure="local")
    await granting(scene, signed | {"exposure": "any"})
    await hand_over(world, signed, ONE)
    await (await world.client()).edit(grant=signed)  # in the log, not folded
    assert (await world.run()).outcome == "ran"
    assert NOTES["notes", "n1"]["content"] in prompts(world)
    assert set(exposures(world)) == {"local"}


@pytest.mark.parametrize(
    ("signed", "deployment", "used"),
    [("local", "any", "local"), ("eu", "any", "eu"), ("any", "eu", "eu"), ("any", "any", "any")],
)
async def test_a_prompt_travels_no_further_than_owner_and_deployment_allow(
    scene: Scene, signed: Exposure, deployment: Exposure, used: Exposure
):
    await with_keys(scene, exposure=deployment)
    await granting(scene, granted(exposure=signed))
    await hand_over(scene.world, granted(exposure=signed), ONE)
    assert (await scene.world.run()).outcome == "ran"
    assert set(exposures(scene.world)) == {used}


def roomy(folder: Path, near: FakeProvider, far: FakeProvider) -> AliasFile:
    """A near provider with room for a whole prompt, and a far one behind it."""
    source = alias_file(folder, near.url, far.url)
    file = Path(source.path)
    file.write_text(file.read_text().replace("context: 8000", "context: 200000"))
    return source


async def test_a_provider_beyond_the_signed_exposure_never_sees_a_prompt(
    scene: Scene, tmp_path: Path
):
    """The near one fails and the far one would serve: the run fails rather than fall back."""
    world, near = scene.world, scene.world.provider
    near.script[:] = [{"status": 500}] * 20
    async with AsyncExitStack() as stack:
        far = stack.enter_context(FakeProvider([PLAN, DONE]))
        router = stack.enter_context(RunningRouter(tmp_path, roomy(tmp_path, near, far)))
        await with_keys(scene, model="mana/fast-text", max_output_tokens=100)
        world.driver.new_provider = lambda _settings: HttpProvider(
            router.url, key_file=router.token_file
        )
        await granting(scene, granted(exposure="local"))
        await hand_over(world, granted(exposure="local"), ONE)
        report = await world.run()
        assert (report.outcome, near.requests != []) == ("waiting", True), report
        assert far.requests == []
        await (await world.client()).edit(grant=granted(exposure="any"))
        await world.sql("UPDATE mana_ai.runs SET not_before = now()")
        await world.driver.fold_all()
        assert (await world.run()).outcome == "ran"
        assert far.requests != []


# --- grants of the original service ---------------------------------------------------------------


async def test_an_unsigned_grant_is_refused_by_default(scene: Scene):
    grant = granted(version="v1")
    await granting(scene, grant)
    await hand_over(scene.world, grant, ONE)
    await assert_refused(scene, await scene.world.run(), "v1-not-accepted")


async def test_an_unsigned_grant_is_used_where_the_setting_accepts_it(lenient: Scene):
    world, grant = lenient.world, granted(version="v1")
    await granting(lenient, grant)
    await hand_over(world, grant, ONE)
    assert (await world.run()).outcome == "ran"
    assert NOTES["notes", "n1"]["content"] in prompts(world)
    (release,) = await lenient.releases()
    assert (release["outcome"], release["grant_version"]) == ("released", "v1")
    (read,) = await world.sql("SELECT status, run_id FROM mana_ai.decrypt_audit")
    assert (read["status"], read["run_id"]) == ("ok", release["run_id"])


async def test_an_exposure_in_an_unsigned_grant_only_lowers(lenient: Scene):
    world, grant = lenient.world, granted(version="v1") | {"exposure": "local"}
    await granting(lenient, grant)
    await hand_over(world, grant, ONE)
    assert (await world.run()).outcome == "ran"
    assert set(exposures(world)) == {"local"}


@pytest.mark.parametrize(
    ("grant", "detail"),
    [
        (lambda: granted(version="v1") | {"expiresAt": "2099-01-01T00:00:00.000Z"},
         "lives-too-long"),
        (lambda: granted(version="v1", mission="m2"), "other-mission"),
        (lambda: granted(version="v1", age_s=-DAY_S), "issued-in-future"),
        (lambda: granted(version="v1") | {"issuedAt": None}, "not-a-grant"),
        (lambda: granted(version="v1", age_s=8 * DAY_S), "expired"),
    ],
    ids=["31-days", "another-mission", "future", "undated", "expired"],
)  # fmt: skip
async def test_an_unsigned_grant_keeps_to_its_mission_and_dates_too(
    lenient: Scene, grant: Callable[[], Json], detail: str
):
    given, good = grant(), granted(version="v1")
    await granting(lenient, good)
    await hand_over(lenient.world, good, ONE)
    await (await lenient.world.client()).edit(grant=given)
    await lenient.world.driver.fold_all()
    await assert_refused(lenient, await lenient.world.run(), detail)


async def test_a_signed_grant_cannot_be_passed_off_as_an_unsigned_one(lenient: Scene):
    signed = granted()
    derivation = {k: v for k, v in signed["derivation"].items() if k != "userId"}
    stripped = signed | {"derivation": derivation | {"version": "v1"}}
    await granting(lenient, listing(stripped, "notes:n2"), records=NOTES)
    await hand_over(lenient.world, signed, NOTES)
    report = await lenient.world.run()
    assert report.decision == "skipped-grant"
    assert await lenient.outcomes() == [("refused", REWRAPPED)]
    assert lenient.world.provider.requests == []
