"""What a mission's inputs become in its prompt, plain and sealed, through whole runs."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from mana_actors.agent.planner.prompt import ResolvedInput
from mana_actors.messages import Report
from state.log.records import InputRef
from tests.integration.granted_scene import Records, granted, hand_over, prompts, push_sealed
from tests.integration.key_scene import Scene, key_scene
from tests.integration.support import DONE, PLAN, Client, Json, World, open_world
from tests.postgres import Database
from tests.record_shapes import GOAL, SHAPES, Shape

pytestmark = pytest.mark.one_postgres

ALL = (*SHAPES, GOAL)
NOTE, TASK, EVENT = SHAPES[0], SHAPES[1], SHAPES[4]


@pytest.fixture
async def world(database: Database) -> AsyncGenerator[World]:
    async with open_world(database, [PLAN, DONE]) as opened:
        yield opened


@pytest.fixture
async def scene(world: World, tmp_path: Path) -> AsyncGenerator[Scene]:
    async with key_scene(world, tmp_path) as opened:
        world.driver = world.new_driver(key_socket=str(opened.socket_path))
        await world.driver.start()
        yield opened


async def push(client: Client, *shapes: Shape, **more: Any) -> None:
    """The records as a device syncs them."""
    for one in shapes:
        await client.push("insert", one.id, one.record, table=one.table, app=one.app, **more)


async def planned(world: World, inputs: list[Json], **mission: Any) -> str:
    """The prompt of a mission with these inputs."""
    client = await world.client()
    await client.mission(inputs=inputs, **mission)
    await world.driver.fold_all()
    report = await world.run()
    assert report.outcome == "ran", report.reason
    return world.provider.requests[0].body["messages"][1]["content"]


def told(shape: Shape) -> str:
    """An input as the prompt has it."""
    return f"### {shape.module}/{shape.table}: {shape.title}\n{shape.content}\n"


async def test_every_module_is_read_in_the_missions_order(world: World):
    await push(await world.client(), *ALL)
    order = list(reversed(ALL))
    prompt = await planned(world, [shape.ref for shape in order])
    places = [prompt.index(told(shape)) for shape in order]
    assert places == sorted(places)
    assert prompt.count("</data") == len(ALL)


async def test_an_input_that_is_named_twice_is_told_once(world: World):
    await push(await world.client(), NOTE, TASK)
    same = TASK.ref | {"module": "todo"}
    prompt = await planned(world, [NOTE.ref, TASK.ref, NOTE.ref, same])
    assert (prompt.count(told(NOTE)), prompt.count(TASK.content)) == (1, 1)


async def test_what_is_not_there_costs_nothing_else(world: World):
    """Unknown module, missing, deleted, and another person's record."""
    client, other = await world.client(), await world.client("u2")
    await push(client, NOTE, EVENT)
    await push(other, TASK)
    await client.push("delete", EVENT.id, {}, table=EVENT.table, app=EVENT.app)
    absent = {"module": "articles", "table": "articles", "id": "a-1"}
    gone = NOTE.ref | {"id": "n-404"}
    prompt = await planned(world, [absent, EVENT.ref, gone, TASK.ref, NOTE.ref])
    assert told(NOTE) in prompt
    assert prompt.count("</data") == 1


async def test_an_own_plain_record_of_a_shared_space_is_read(world: World):
    await push(await world.client(), NOTE, space="s1")
    assert told(NOTE) in await planned(world, [NOTE.ref], space="s1")


async def test_only_the_owners_rows_of_a_record_are_read(world: World):
    """Members' edits stay outside: what a member writes must not steer somebody else's agent."""
    client, member = await world.client(), await world.client("u2")
    await push(client, NOTE, space="s1")
    await member.push(
        "update", NOTE.id, {"content": "von u2"}, table="notes", app="notes", space="s1"
    )
    assert "von u2" not in await planned(world, [NOTE.ref], space="s1")


async def test_later_edits_count_and_the_last_word_wins(world: World):
    client = await world.client()
    await push(client, NOTE)
    await client.push(
        "update", NOTE.id, {"content": "Neu"}, table="notes", app="notes",
        meta={"content": "2026-11-01T10:00:00.000Z"},
    )  # fmt: skip
    assert "### notes/notes: Einkauf\nNeu\n" in await planned(world, [NOTE.ref])


async def test_a_resolver_that_code_added_is_asked_for_its_module(world: World):
    async def weather(_read: object, ref: InputRef) -> ResolvedInput | None:
        if ref.id == "broken":
            raise ValueError("secret")
        return ResolvedInput("w-1", ref.module, ref.table, "Wetter", "Regen")

    world.driver.resolvers["weather"] = weather
    await push(await world.client(), NOTE)
    place = {"module": "weather", "table": "places", "id": "Bern"}
    prompt = await planned(world, [place, place | {"id": "broken"}, NOTE.ref])
    assert prompt.index("### weather/places: Wetter\nRegen\n") < prompt.index(told(NOTE))
    assert prompt.count("</data") == 2


# --- sealed ---------------------------------------------------------------------------------------


def records(*shapes: Shape) -> Records:
    return {(one.table, one.id): one.record for one in shapes}


async def seal(scene: Scene, *shapes: Shape, mission: Json) -> Json:
    """These records sealed, with a grant for them and their copies; the grant."""
    world = scene.world
    grant = granted([f"{one.table}:{one.id}" for one in shapes])
    await push_sealed(world, {one.table: one.app for one in shapes}, records(*shapes))
    await (await world.client()).mission(grant=grant, **mission)
    await world.driver.fold_all()
    await hand_over(world, grant, records(*shapes))
    return grant


async def readings(scene: Scene) -> list[tuple[str, str, str]]:
    """What the audit says was read."""
    rows = await scene.world.sql(
        "SELECT table_name, record_id, status FROM mana_ai.decrypt_audit ORDER BY id"
    )
    return [(row["table_name"], row["record_id"], row["status"]) for row in rows]


def decrypted(report: Report) -> dict[str, float]:
    """Fields decrypted, by table."""
    counts = [one for one in report.counts if one.name == "decrypts_total"]
    found: dict[str, float] = {}
    for one in counts:
        found[one.labels[0]] = found.get(one.labels[0], 0) + one.value
    return found


async def test_every_module_is_opened_in_the_missions_order(scene: Scene):
    world = scene.world
    await push(await world.client(), GOAL)
    order = [SHAPES[3], GOAL, *SHAPES[:3], *SHAPES[4:]]
    await seal(scene, *SHAPES, mission={"inputs": [shape.ref for shape in order]})
    report = await world.run()
    assert report.outcome == "ran", report.reason
    prompt = world.provider.requests[0].body["messages"][1]["content"]
    places = [prompt.index(told(shape)) for shape in order]
    assert places == sorted(places)
    assert "enc:1:" not in prompts(world)
    assert sorted(await readings(scene)) == sorted((s.table, s.id, "ok") for s in SHAPES)
    assert decrypted(report) == {
        "notes": 2, "tasks": 5, "events": 4, "journalEntries": 2, "kontextDoc": 1, "userContext": 8,
    }  # fmt: skip


async def test_a_sealed_input_that_is_named_twice_is_opened_once(scene: Scene):
    await seal(scene, TASK, mission={"inputs": [TASK.ref, TASK.ref | {"module": "todo"}]})
    assert (await scene.world.run()).outcome == "ran"
    assert await readings(scene) == [("tasks", TASK.id, "ok")]


async def test_plain_and_sealed_records_stand_side_by_side(scene: Scene):
    """A record of a guest or a shared space needs no grant, and leaves no row in the audit."""
    await push(await scene.world.client(), EVENT)
    await seal(scene, NOTE, mission={"inputs": [EVENT.ref, NOTE.ref]})
    report = await scene.world.run()
    assert report.outcome == "ran", report.reason
    prompt = prompts(scene.world)
    assert EVENT.content in prompt
    assert NOTE.content in prompt
    assert await readings(scene) == [("notes", NOTE.id, "ok")]


@pytest.mark.parametrize("shape", [NOTE, TASK, EVENT, GOAL], ids=lambda shape: shape.module)
@pytest.mark.parametrize("grant", [None, "other"])
async def test_one_sealed_field_is_enough_to_need_a_grant(
    scene: Scene, shape: Shape, grant: str | None
):
    """Whatever its module: ciphertext never reaches a prompt, and nothing is planned blind."""
    world = scene.world
    client = await world.client()
    half = shape.record | {"title": "enc:1:AAECAwQFBgcICQoL.AAAA"}
    await client.push("insert", shape.id, half, table=shape.table, app=shape.app)
    given = granted(["notes:else"]) if grant else None
    await client.mission(inputs=[shape.ref], grant=given)
    await world.driver.fold_all()
    report = await world.run()
    assert report.decision == "skipped-grant"
    assert world.provider.requests == []
    assert await scene.releases() == []


async def test_a_copy_shows_what_its_owner_handed_over_last(scene: Scene):
    grant = await seal(scene, NOTE, mission={"inputs": [NOTE.ref]})
    newer = NOTE.record | {"content": "Neuer Inhalt"}
    await hand_over(scene.world, grant, {("notes", NOTE.id): newer})
    assert (await scene.world.run()).outcome == "ran"
    assert "Neuer Inhalt" in prompts(scene.world)
    assert NOTE.content not in prompts(scene.world)
