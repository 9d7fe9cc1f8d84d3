"""What a client does with its owner's keys: the server's readers open what it seals, and back."""

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from mana_actors.client.owner.sealing import OwnerKeys, new_private_key
from state.grants.grant import Derivation, derived_key
from state.sealing import forgiving_base64
from state.sealing.copies import SEALED_FIELDS, source_digest
from state.sealing.values import CiphertextRejected, is_sealed, opened_record

MASTER_KEY = bytes(range(1, 33))
NOTE = {"id": "n1", "title": "Einkauf", "content": "Äpfel", "color": None, "isPinned": False}
DOC = Path(__file__).parents[2] / "docs" / "sealing.md"


def example() -> dict[str, Any]:
    (block,) = re.findall(r"```json\n(.*?)```", DOC.read_text(), re.DOTALL)
    return json.loads(block)


def test_a_record_is_sealed_as_its_table_says_and_opened_again():
    keys = OwnerKeys("u1", MASTER_KEY)
    synced = keys.seal("notes", NOTE)
    assert {name for name, value in synced.items() if is_sealed(value)} == {"title", "content"}
    assert keys.open(synced) == NOTE
    assert keys.seal("somethingElse", NOTE) == NOTE
    with pytest.raises(CiphertextRejected):
        OwnerKeys("u1", bytes(32)).open(synced)


def test_every_field_that_copies_stand_for_is_sealed():
    keys = OwnerKeys("u1", MASTER_KEY)
    for table, fields in SEALED_FIELDS.items():
        assert all(map(is_sealed, keys.seal(table, dict.fromkeys(fields, "x")).values())), table


def test_copies_open_under_the_key_of_their_mission_only():
    derivation = Derivation("v2", "m1", ["notes"], ["notes:n1"], "u1")
    keys = OwnerKeys("u1", MASTER_KEY)
    synced = keys.seal("notes", NOTE)
    plain = {"id": "n2", "title": "offen"}
    (copy,) = keys.copies(derivation, {"notes:n1": synced, "notes:n2": plain})
    assert (copy.table, copy.id, copy.source) == ("notes", "n1", source_digest(synced))
    with derived_key(MASTER_KEY, "u1", derivation) as key:
        assert opened_record(copy.fields, key).record == {"title": "Einkauf", "content": "Äpfel"}
    other = Derivation("v2", "m2", ["notes"], ["notes:n1"], "u1")
    with derived_key(MASTER_KEY, "u1", other) as key, pytest.raises(CiphertextRejected):
        opened_record(copy.fields, key)


def test_the_published_example_opens_with_the_key_that_it_names():
    given = example()
    private = forgiving_base64.decoded(given["privateKey"])
    assert private is not None
    other, _ = new_private_key()
    keys = OwnerKeys(given["userId"], MASTER_KEY, [other, private])
    assert keys.can_open(given["iteration"])
    assert keys.open_iteration(given["missionId"], given["iteration"]) == given["opened"]
    assert keys.open_iteration(given["missionId"], given["opened"]) == given["opened"]


def test_a_plan_for_a_key_that_is_not_here_is_not_opened():
    given, (other, _) = example(), new_private_key()
    keys = OwnerKeys(given["userId"], MASTER_KEY, [other])
    assert not keys.can_open(given["iteration"])
    with pytest.raises(CiphertextRejected):
        keys.open_iteration(given["missionId"], given["iteration"])


def test_a_new_private_key_comes_with_its_public_half():
    private, public = new_private_key()
    assert X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw() == public


def test_keys_are_neither_shown_nor_sent():
    keys = OwnerKeys("u1", MASTER_KEY)
    assert str(MASTER_KEY) not in repr(keys)
    with pytest.raises(TypeError):
        pickle.dumps(keys)


@pytest.mark.parametrize("keys", [(bytes(31), []), (MASTER_KEY, [bytes(33)])])
def test_a_key_of_a_wrong_length_is_refused(keys: Any):
    with pytest.raises(ValueError, match="32 bytes"):
        OwnerKeys("u1", *keys)


def test_it_needs_neither_ray_nor_a_database_nor_a_web_server():
    code = (
        "import sys, mana_actors.client.owner.grants;"
        "print({'ray', 'asyncpg', 'starlette', 'httpx2', 'uvicorn'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
