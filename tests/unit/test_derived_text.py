"""What was made of decrypted inputs opens for its owner, unchanged, and nowhere else."""

import base64
import hmac
import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from state.log.iterations import (
    PlannedStep,
    append_iteration,
    iteration_from_plan,
    merge_iterations,
)
from state.sealing.derived_text import (
    SHOWN,
    Place,
    opened_iteration,
    sealed_iteration,
    shown_iteration,
    tells_derived_text,
)
from state.sealing.key_pairs import OwnerKey, key_id
from state.sealing.values import (
    CiphertextMalformed,
    CiphertextRejected,
    DataKey,
    SealingError,
    is_sealed,
)

Json = dict[str, Any]
DOCUMENT = Path(__file__).parents[2] / "docs" / "sealing.md"
PRIVATE = bytes(range(32))
OTHER = bytes(range(1, 33))
PLACE = Place("u1", "m1", "it-1")
SECRETS = ("Erdbeerkuchen", "weil Sonntag ist", "Alles geplant", "broke off")


def public(private: bytes = PRIVATE) -> OwnerKey:
    raw = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    return OwnerKey(key_id(raw), raw)


def plan(summary: str = "Alles geplant", **params: Any) -> Json:
    """An iteration with something in every field that a model fills."""
    steps = [
        PlannedStep("create_task", {"title": "Erdbeerkuchen"} | params, None, "weil Sonntag ist"),
        PlannedStep("create_note", {"body": ["Erdbeerkuchen"]}),
    ]
    now = "2026-04-27T05:00:41.120Z"
    made = iteration_from_plan(steps, summary, "it-1", now, "plan cut short: broke off")
    return {**made, "usedEncryptedInputs": True}


def ivs() -> Callable[[], bytes]:
    numbers: Iterator[int] = iter(range(10**6))
    return lambda: next(numbers).to_bytes(12, "big")


def sealed(iteration: Json | None = None, place: Place = PLACE) -> Json:
    with DataKey(bytearray(range(100, 132))) as key:
        return sealed_iteration(iteration or plan(), public(), place, key, ivs())


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:  # type: ignore[misc]
            yield from leaves(each)
    else:
        yield value


def test_nothing_that_a_model_wrote_is_readable_in_what_is_sealed():
    wire = json.dumps(sealed())
    assert [secret for secret in SECRETS if secret in wire] == []


def test_what_sync_healing_and_executors_go_by_stays_readable():
    before, after = plan(), sealed()
    kept = ("id", "startedAt", "finishedAt", "overallStatus", "source", "usedEncryptedInputs")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert after["errorDetails"]["name"] == "plan-cut-short"
    assert [(step["id"], step["status"]) for step in after["plan"]] == [
        ("it-1-0", "planned"),
        ("it-1-1", "planned"),
    ]
    intents = [step["intent"] for step in after["plan"]]
    assert [(each["kind"], each["toolName"]) for each in intents] == [
        ("toolCall", "create_task"),
        ("toolCall", "create_note"),
    ]
    assert append_iteration([], after) == [after]
    assert merge_iterations([[before], [after]]) == [after]


def test_a_field_that_nobody_thought_of_is_sealed():
    unknown: Json = {**plan(), "mood": "Erdbeerkuchen"}
    unknown["plan"][0]["hint"] = "Erdbeerkuchen"
    unknown["plan"][0]["intent"]["note"] = {"deep": "Erdbeerkuchen"}
    wire = sealed(unknown)
    assert "Erdbeerkuchen" not in json.dumps(wire)
    assert opened_iteration(wire, PRIVATE, PLACE) == unknown


@pytest.mark.parametrize("text", ["enc:1:Erdbeerkuchen", "enc:1:AAAA.BBBB"])
def test_text_that_pretends_to_be_sealed_is_sealed_all_the_same(text: str):
    wire = sealed(plan(text, title=text))
    assert text not in json.dumps(wire)
    assert opened_iteration(wire, PRIVATE, PLACE) == plan(text, title=text)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
)  # fmt: skip


@given(JSON)
def test_an_owner_opens_what_was_sealed_for_them(value: Any):
    made = plan(anything=value)
    assert opened_iteration(sealed(made), PRIVATE, PLACE) == made


def test_feedback_and_states_written_on_a_sealed_iteration_are_kept():
    wire = sealed()
    wire["userFeedback"] = "Bitte früher"
    wire["plan"][0] |= {"status": "staged", "proposalId": "p-1"}
    seen = opened_iteration(wire, PRIVATE, PLACE)
    assert seen["userFeedback"] == "Bitte früher"
    assert (seen["plan"][0]["status"], seen["plan"][0]["proposalId"]) == ("staged", "p-1")


def test_another_owners_key_opens_nothing():
    with pytest.raises(CiphertextRejected):
        opened_iteration(sealed(), OTHER, PLACE)


@pytest.mark.parametrize(
    "place", [Place("u2", "m1", "it-1"), Place("u1", "m2", "it-1"), Place("u1", "m1", "it-2")]
)
def test_a_sealed_key_opens_in_its_own_place_only(place: Place):
    with pytest.raises(CiphertextRejected):
        opened_iteration(sealed(), PRIVATE, place)


def test_a_changed_byte_of_the_sealed_key_is_refused():
    wire = sealed()
    raw = base64.b64decode(wire["sealedFor"]["sealedKey"])
    assert len(raw) == 80
    for at in range(len(raw)):
        broken = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        told = {**wire["sealedFor"], "sealedKey": base64.b64encode(broken).decode()}
        with pytest.raises(SealingError):
            opened_iteration({**wire, "sealedFor": told}, PRIVATE, PLACE)


def test_a_changed_byte_of_a_field_is_refused():
    wire = sealed()
    iv, body = (base64.b64decode(part) for part in wire["summary"][6:].split("."))
    whole = iv + body
    for at in range(len(whole)):
        broken = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        parts = (base64.b64encode(part).decode() for part in (broken[:12], broken[12:]))
        with pytest.raises(CiphertextRejected):
            opened_iteration({**wire, "summary": f"enc:1:{'.'.join(parts)}"}, PRIVATE, PLACE)


@pytest.mark.parametrize("put", ["Plain words", "nc:1:AAAA.BBBB", 7, {"title": "x"}])
def test_plain_text_in_the_place_of_sealed_is_refused(put: Any):
    for path in (("summary",), ("plan", 0, "rationale"), ("plan", 0, "intent", "params")):
        wire: Any = deepcopy(sealed())
        place = wire
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = put
        with pytest.raises(CiphertextMalformed):
            opened_iteration(wire, PRIVATE, PLACE)


@pytest.mark.parametrize("told", [None, "text", {}, {"keyId": "k", "sealedKey": "no base64!"},
                                  {"keyId": "k", "sealedKey": ""}])  # fmt: skip
def test_a_malformed_sealed_key_is_a_clear_error(told: Any):
    with pytest.raises(SealingError):
        opened_iteration({**sealed(), "sealedFor": told}, PRIVATE, PLACE)


def test_an_iteration_that_is_not_sealed_stays_as_it_is():
    assert opened_iteration(plan(), PRIVATE, PLACE) == plan()
    assert shown_iteration(plan()) == plan()


def test_who_cannot_open_it_sees_no_ciphertext_and_the_owners_feedback():
    shown = shown_iteration({**sealed(), "userFeedback": "Bitte früher"})
    assert "sealedFor" not in shown
    assert not any(is_sealed(leaf) for leaf in leaves(shown))
    assert shown["summary"] == shown["plan"][0]["intent"]["params"] == SHOWN
    assert shown["userFeedback"] == "Bitte früher"


def test_text_is_derived_as_long_as_it_can_be_read():
    untouched = {name: value for name, value in plan().items() if name != "usedEncryptedInputs"}
    assert tells_derived_text([untouched, plan()])
    assert not tells_derived_text([untouched, sealed()])


# --- the document ---------------------------------------------------------------------------------


def example() -> Json:
    found = re.search(r"```json\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_documents_example_opens_as_it_says():
    told = example()
    private = base64.b64decode(told["privateKey"])
    place = Place(told["userId"], told["missionId"], told["iteration"]["id"])
    assert opened_iteration(told["iteration"], private, place) == told["opened"]
    assert told["iteration"]["sealedFor"]["keyId"] == public(private).id
    assert base64.b64decode(told["publicKey"]) == public(private).public_key


def test_the_document_says_enough_to_open_it_without_our_code():
    told = example()
    private, wire = base64.b64decode(told["privateKey"]), told["iteration"]
    place = json.dumps([told["userId"], told["missionId"], wire["id"]], separators=(",", ":"))
    raw = base64.b64decode(wire["sealedFor"]["sealedKey"])
    content_key = rfc_9180_opened(raw, private, f"mana-derived-text:1:{place}".encode())
    iv, body = (base64.b64decode(part) for part in wire["summary"][6:].split("."))
    assert json.loads(AESGCM(content_key).decrypt(iv, body, None)) == told["opened"]["summary"]


def rfc_9180_opened(raw: bytes, private: bytes, info: bytes) -> bytes:
    """Base mode, X25519, HKDF-SHA256, AES-256-GCM, by the letter of the RFC."""
    encapsulated, body = raw[:32], raw[32:]
    secret = X25519PrivateKey.from_private_bytes(private)
    shared = secret.exchange(X25519PublicKey.from_public_bytes(encapsulated))
    kem, suite = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x02"
    both = encapsulated + secret.public_key().public_bytes_raw()
    prk = extract(kem, b"", b"eae_prk", shared)
    shared_secret = expand(kem, prk, b"shared_secret", both, 32)
    hashes = [extract(suite, b"", b"psk_id_hash", b""), extract(suite, b"", b"info_hash", info)]
    context = b"\x00" + b"".join(hashes)
    prk = extract(suite, shared_secret, b"secret", b"")
    key, nonce = (
        expand(suite, prk, b"key", context, 32),
        expand(suite, prk, b"base_nonce", context, 12),
    )
    return AESGCM(key).decrypt(nonce, body, b"")


def extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + material, sha256)


def expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labelled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(prk, labelled + b"\x01", sha256)[:length]
