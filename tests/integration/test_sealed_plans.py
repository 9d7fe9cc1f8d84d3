"""What a run makes of granted records is its owner's alone, once they registered a key."""

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from mana_actors.client.owner.grants import MissionGrants
from mana_actors.client.owner.sealing import OwnerKeys
from state.sealing.derived_text import SHOWN
from state.sealing.values import CiphertextRejected, is_sealed
from state.store.agent import AgentStore
from state.store.connect import CapabilityInvalid
from state.store.connect import Database as Pool
from tests.fake_provider import Entry
from tests.integration.key_scene import MASTER_KEY, Scene, key_scene, minted
from tests.integration.support import LONG_AGO, Json, World, open_world
from tests.integration.test_granted_runs import prepared
from tests.owners import House, open_house
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres
TITLE, REASON, SUMMARY = "Mandelkuchen-91c2", "Sonntagsbesuch-77e0", "Backplan-5d4b"
PLANNED: Entry = {
    "calls": [{"name": "create_task", "args": {"title": TITLE, "rationale": REASON}}],
    "usage": [80, 20],
}
SAID: Entry = {"content": f"{SUMMARY} steht.", "usage": [40, 10]}
TABLES = """
SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname IN ('mana_ai', 'public', 'auth') AND c.relkind = 'r'
"""


class Home(Scene):
    """A scene with a gateway in front of the same database."""

    house: House

    def owner(self, user: str = "u1") -> MissionGrants:
        """This person's client."""
        token = self.house.auth.token(user)
        return MissionGrants(self.house.client, token, OwnerKeys(user, MASTER_KEY))

    async def registered(self, user: str = "u1") -> bytes:
        """The private half of a key that this person registered just now."""
        private = X25519PrivateKey.generate()
        await self.owner(user).register_key(private.public_key().public_bytes_raw())
        return private.private_bytes_raw()

    async def planned(self) -> Json:
        """The iteration of a run, as it is in the log."""
        self.world.provider.script.extend([PLANNED, SAID])
        report = await self.world.run()
        assert (report.outcome, report.steps) == ("ran", 1)
        await self.world.driver.fold_all()
        return (await self.world.written())[-1]["data"]["iterations"][-1]

    async def again(self, **fields: Any) -> Json:
        """The next run, after these changes of its mission."""
        await (await self.world.client()).edit("m1", **fields)
        past = len(await self.world.runs())
        await self.world.open_slot(slot=LONG_AGO + timedelta(days=past))
        await self.world.driver.fold_all()
        return await self.planned()


@pytest.fixture
async def home(database: Database, tmp_path: Path) -> AsyncGenerator[Home]:
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(open_world(database))
        scene = await stack.enter_async_context(key_scene(world, tmp_path))
        opened = Home(world, scene.socket_path, stack)
        opened.house = await stack.enter_async_context(open_house(database, tmp_path))
        world.driver = world.new_driver(key_socket=str(scene.socket_path))
        await world.driver.start()
        yield opened


def opened(iteration: Json, private: bytes, user: str = "u1") -> Json:
    """The iteration as this person's client shows it."""
    return OwnerKeys(user, MASTER_KEY, [private]).open_iteration("m1", iteration)


async def tables_that_hold(world: World, secret: str) -> list[str]:
    """Every table with this text anywhere in a row."""
    return [
        name
        for (name,) in await world.sql(TABLES)
        if await world.value(f"SELECT EXISTS (SELECT FROM {name} AS t WHERE t::text LIKE $1)",
                             f"%{secret}%")
    ]  # fmt: skip


async def test_with_a_key_nothing_of_the_plan_is_readable_but_for_its_owner(
    home: Home, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    private = await home.registered()
    await prepared(home, minted())
    iteration = await home.planned()
    for secret in (TITLE, REASON, SUMMARY):
        assert await tables_that_hold(home.world, secret) == []
        assert secret not in caplog.text
    assert iteration["usedEncryptedInputs"] is True
    assert iteration["plan"][0]["intent"]["toolName"] == "create_task"
    seen = opened(iteration, private)
    assert seen["summary"] == f"{SUMMARY} steht."
    (step,) = seen["plan"]
    assert step["intent"]["params"] == {"title": TITLE}
    assert (step["rationale"], step["id"]) == (REASON, f"{iteration['id']}-0")


async def test_the_words_of_a_refusal_are_sealed_as_a_plan_would_be(
    home: Home, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    private = await home.registered()
    await prepared(home, minted())
    message = {"role": "assistant", "content": None, "refusal": f"Über {SUMMARY} rede ich nicht."}
    answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    home.world.provider.script.append({"answer": answer})
    report = await home.world.run()
    await home.world.driver.fold_all()
    assert report.outcome == "failed"
    assert await tables_that_hold(home.world, SUMMARY) == []
    assert SUMMARY not in f"{report} {caplog.text}"
    iteration = (await home.world.written())[-1]["data"]["iterations"][-1]
    assert (iteration["usedEncryptedInputs"], iteration["errorDetails"]["name"]) == (
        True,
        "refused",
    )
    assert SUMMARY in opened(iteration, private)["summary"]


async def test_without_a_key_the_plan_is_plain_and_marked(home: Home):
    await home.registered("u2")  # somebody else's
    await prepared(home, minted())
    iteration = await home.planned()
    assert (iteration["usedEncryptedInputs"], "sealedFor" in iteration) == (True, False)
    assert iteration["plan"][0]["intent"]["params"] == {"title": TITLE}
    assert iteration["summary"] == f"{SUMMARY} steht."


async def test_a_plan_made_of_plain_inputs_is_not_sealed(home: Home):
    await home.registered()
    await (await home.world.client()).mission()
    await home.world.driver.fold_all()
    iteration = await home.planned()
    assert "usedEncryptedInputs" not in iteration
    assert iteration["summary"] == f"{SUMMARY} steht."


async def test_only_the_newest_key_opens_what_comes_after_it(home: Home):
    first = await home.registered()
    second = await home.registered()
    await prepared(home, minted())
    iteration = await home.planned()
    with pytest.raises(CiphertextRejected):
        opened(iteration, first)
    with pytest.raises(CiphertextRejected):
        opened(iteration, second, "u2")
    assert opened(iteration, second)["summary"] == f"{SUMMARY} steht."


async def test_a_removed_key_is_sealed_for_no_more(home: Home):
    await home.registered()
    removed = await home.house.desk().ask("DELETE", "/api/v1/me/ai-derived-key")
    assert removed.status_code == 200
    await prepared(home, minted())
    assert "sealedFor" not in await home.planned()


async def test_the_next_prompt_says_sealed_and_has_the_owners_feedback(home: Home):
    await home.registered()
    await prepared(home, minted())
    iteration = await home.planned()
    await home.again(iterations=[{**iteration, "userFeedback": "Bitte ohne Zucker"}])
    prompt = json.dumps(json.loads(home.world.provider.requests[-2].raw), ensure_ascii=False)
    assert f"Summary: {SHOWN}" in prompt
    assert f"- [planned] create_task {SHOWN}" in prompt
    assert "Feedback: Bitte ohne Zucker" in prompt
    assert "enc:1:" not in prompt
    assert "[encrypted]" not in prompt
    assert TITLE not in prompt
    assert iteration["sealedFor"]["sealedKey"][:20] not in prompt


async def test_what_quotes_a_readable_derived_plan_is_derived_too(home: Home):
    await prepared(home, minted())
    await home.planned()
    after = await home.again(inputs=[], grant=None)
    assert (after["usedEncryptedInputs"], "sealedFor" in after) == (True, False)
    private = await home.registered()
    last = await home.again()
    assert is_sealed(last["summary"])
    assert opened(last, private)["summary"] == f"{SUMMARY} steht."


async def test_what_cannot_read_the_sealed_plan_before_it_is_no_derived_text(home: Home):
    await home.registered()
    await prepared(home, minted())
    await home.planned()
    after = await home.again(inputs=[], grant=None)
    assert "usedEncryptedInputs" not in after
    assert after["summary"] == f"{SUMMARY} steht."


async def test_a_sealed_plan_that_a_client_erased_is_put_back_sealed(home: Home):
    private = await home.registered()
    await prepared(home, minted())
    iteration = await home.planned()
    ahead = (await home.world.written())[-1]["field_meta"]["iterations"].replace("20", "21", 1)
    client = await home.world.client()
    await client.push("update", "m1", {"iterations": []}, meta={"iterations": ahead})
    await home.world.driver.fold_all()
    await home.world.driver.tick()
    await home.world.driver.fold_all()
    (back,) = (await home.world.record())["iterations"]
    assert back == iteration
    assert opened(back, private)["summary"] == f"{SUMMARY} steht."


async def test_a_key_that_cannot_be_read_lets_nothing_be_written(home: Home):
    await home.registered()
    await prepared(home, minted())
    await home.world.sql("REVOKE SELECT ON mana_ai.owner_keys FROM mana_agent")
    home.world.provider.script.extend([PLANNED, SAID])
    assert (await home.world.run()).outcome == "interrupted"
    assert await home.world.written() == []
    assert [run["state"] for run in await home.world.runs()] == ["open"]


async def test_no_key_is_only_believed_under_a_capability(home: Home):
    await home.registered()
    theirs = await home.world.driver.schedule.sign_capability("u2", "a1", (), (), 900)
    pool = Pool(home.world.access("mana_agent"), max_connections=1)
    store = AgentStore(pool, "u1", "a1", lambda: theirs)
    try:
        with pytest.raises(CapabilityInvalid):
            await store.owner_key()
    finally:
        await pool.close()


async def test_an_agent_reads_its_owners_key_and_changes_none(home: Home):
    await home.registered("u1")
    await home.registered("u2")
    store = await home.store("u1")
    async with store.transaction() as connection:
        rows = await connection.fetch("SELECT user_id FROM mana_ai.owner_keys")
        assert [row["user_id"] for row in rows] == ["u1"]
    for attempt in (
        "UPDATE mana_ai.owner_keys SET key_id = 'mine'",
        "DELETE FROM mana_ai.owner_keys",
        "INSERT INTO mana_ai.owner_keys (user_id, key_id, public_key) VALUES ('u1', 'k', '')",
        "SELECT mana_ai.put_owner_key('u1', 'k', sha256(''), NULL, NULL)",
        "SELECT mana_ai.remove_owner_key('u1', NULL, NULL)",
        "SELECT * FROM mana_ai.owner_key_changes",
    ):
        with pytest.raises(Exception, match="42501"):
            async with store.transaction() as connection:
                await connection.execute(attempt)


async def test_the_restrictive_policy_alone_keeps_other_peoples_keys_from_an_agent(home: Home):
    await home.registered("u2")
    await home.world.sql("CREATE POLICY careless ON mana_ai.owner_keys TO mana_agent USING (true)")
    store = await home.store("u1")
    async with store.transaction() as connection:
        assert await connection.fetch("SELECT * FROM mana_ai.owner_keys") == []
