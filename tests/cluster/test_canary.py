"""Decrypted text is nowhere but in its owner's rows, and in the agent while it runs (P7, P10).

A note holds two random words. Nothing that anybody writes down may quote `SECRET`, although
provider and model do their best to spread it; the plan quotes `QUOTED`, as derived text of an owner
who registered no key for it.
"""

import secrets
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests import canary
from tests.canary import Hit, Needle
from tests.cluster.canary_scene import USER, Story, told
from tests.fake_provider import Entry
from tests.postgres import Database

PLANNED, REFUSED = "mission-planned", "mission-refused"


def _word(start: str) -> str:
    """A word that is nowhere else; letters only, as the short codes of providers are."""
    return start + "".join(secrets.choice("abcdefghijklmnop") for _ in range(20))


SECRET, QUOTED = _word("kuchen"), _word("mehl")
TEXTS = [canary.text_needle("secret", SECRET), canary.text_needle("quoted", QUOTED)]
NOTE: dict[str, Any] = {
    "id": "n1",
    "title": "Einkauf",
    "content": f"Morgen {SECRET} 🎂 mit „{QUOTED}“ backen",
}
ECHO: Entry = {"status": 500, "kind": SECRET, "message": f"cannot think of {SECRET} {QUOTED}"}
NONSENSE: Entry = {
    "content": f"Erst {SECRET}",
    "calls": [
        {"name": f"bake_{SECRET}", "args": {"cake": SECRET}},
        {"name": "create_task", "args": f"{{{SECRET}"},
        {"name": "create_task", "args": {"title": 7, SECRET: SECRET}},
    ],
    "finish": SECRET,
    "usage": [10, 5],
}
PLAN: Entry = {
    "calls": [{"name": "create_task", "args": {"title": f"{QUOTED} holen"}}],
    "usage": [10, 5],
}
DONE: Entry = {"content": f"Geplant: {QUOTED}.", "usage": [10, 5]}
NO: Entry = {"status": 400, "kind": SECRET, "message": f"will not bake {SECRET} {QUOTED}"}

OWNERS_ROWS = ("public.sync_changes", "mana_ai.mission_snapshots", "mana_ai.proposals")
PASSING = frozenset({"agent", "router"})
"""Who sees prompts and answers: an agent ends after its run, the router keeps freed memory."""
OF_KEYS = frozenset({"gateway", "key holder"})
"""Who handles keys: Python's copies of those cannot be wiped, only dropped."""


async def test_decrypted_text_is_in_its_owners_rows_and_nowhere_else(
    database: Database, tmp_path: Path
) -> None:
    async with told(database, tmp_path) as story:
        await assert_clean_while_it_runs(story)
        await finish_runs(story)
        await assert_only_in_the_rows(story, OWNERS_ROWS)
        await assert_no_memory_keeps_it(story, "router", "supervisor", "gateway")


async def test_what_is_made_of_it_is_nowhere_once_the_owner_registered_a_key(
    database: Database, tmp_path: Path
) -> None:
    async with told(database, tmp_path) as story:
        key = X25519PrivateKey.generate().public_key()
        await story.owner.client.register_key(key.public_bytes_raw())
        await assert_clean_with_kept_answers(story)
        await finish_runs(story)
        await assert_only_in_the_rows(story, ())
        await assert_no_memory_keeps_it(story, "router")


async def assert_clean_with_kept_answers(story: Story) -> None:
    """The second model call is under way, and the first one's answer is in the journal."""
    story.provider.scripts |= {PLANNED: [NONSENSE, PLAN, DONE], REFUSED: [NO]}
    story.provider.hold_at(2)
    await story.owner.write(NOTE)
    await story.owner.grant(PLANNED)
    await story.asked(PLANNED, 2)
    assert await story.admin.fetchval("SELECT count(*) FROM mana_ai.journal") == 1
    assert await story.outside(TEXTS) == set()


async def assert_clean_while_it_runs(story: Story) -> None:
    """A model call is under way; the agent has decrypted, which shows that the search works."""
    story.provider.scripts |= {PLANNED: [ECHO, NONSENSE, PLAN, DONE], REFUSED: [NO]}
    story.provider.hold()
    await story.owner.write(NOTE)
    await story.owner.grant(PLANNED)
    await story.asked(PLANNED)
    assert await story.outside(TEXTS) == set()
    inside = story.inside([*TEXTS, here(story)])
    assert inside["agent"] == {"secret", "quoted", "here"}
    others = {kind: names for kind, names in inside.items() if kind not in PASSING}
    assert set(others) == {
        *("supervisor", "gateway", "key holder", "warm"),
        *("node", "node keeper", "ray"),
    }
    assert [kind for kind, names in others.items() if names != {"here"}] == []
    story.assert_no_core_files()


async def finish_runs(story: Story) -> None:
    """One mission is planned, the other one refused by the provider; their processes are gone."""
    agents = story.agents()
    story.provider.release()
    assert await story.ended(PLANNED) == "committed"
    await story.owner.grant(REFUSED)
    assert await story.ended(REFUSED) == "failed"
    await story.gone(agents)
    await story.asleep()  # although agents are kept awake here
    await story.until(lambda: story.admin.fetchval("SELECT count(*) FROM mana_ai.proposals"))


async def assert_only_in_the_rows(story: Story, tables: tuple[str, ...]) -> None:
    """Derived text is in these tables, in rows of its owner; keys are nowhere."""
    hits = await story.outside([*TEXTS, *keys_of(story)])
    assert hits == {Hit("quoted", table) for table in tables}
    for table in tables:
        owners = await story.admin.fetch(
            f"SELECT DISTINCT user_id FROM {table} AS t WHERE position($1 IN t::text) > 0", QUOTED
        )
        assert [owner for (owner,) in owners] == [USER]


async def assert_no_memory_keeps_it(story: Story, *may: str) -> None:
    """Only the router's freed memory may; and who folds or shows what the owner's rows say."""
    inside = story.inside([*TEXTS, *keys_of(story)])
    assert "agent" not in inside
    secret = {kind for kind, names in inside.items() if "secret" in names}
    quoted = {kind for kind, names in inside.items() if "quoted" in names}
    assert secret <= {"router"}
    assert quoted <= set(may)
    with_keys = {kind for kind, names in inside.items() if names - {"secret", "quoted"}}
    assert with_keys <= OF_KEYS


def here(story: Story) -> Needle:
    """What is in the environment of every process of the node: found, so memory was read."""
    return canary.text_needle("here", story.node.folder.name)


def keys_of(story: Story) -> list[Needle]:
    """The owner's master key, and the data keys made of it."""
    owner = story.owner
    keys = {"master key": bytes(owner.master_key)}
    keys |= {f"data key {place}": key for place, key in enumerate(owner.data_keys)}
    return [canary.key_needle(name, key) for name, key in keys.items()]
