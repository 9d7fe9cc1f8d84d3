"""What a run that read secrets keeps of its answers opens for that run and that request alone."""

import base64
import hashlib
import hmac
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mana_actors.agent.inputs.sealed_inputs import Unreadable, open_sealed
from mana_actors.agent.inputs.sources import Sources
from mana_actors.agent.model.journal import Journal
from mana_actors.agent.planner.exchange import (
    ChatMessage,
    ModelAnswer,
    ModelRequest,
    ToolCall,
    request_hash,
)
from mana_actors.keys.client import HeldKey
from state.log.merge import Snapshot
from state.log.records import InputRef
from state.sealing.copies import KeptCopy
from state.sealing.journal import ANSWERS_INFO, DIGESTS_INFO, JournalKeys
from state.sealing.values import DataKey, SealingError, sealed_record
from state.store.agent import ReadRecord

MATERIAL = bytes(range(32))
RUN = uuid.UUID(int=7)
IV = bytes(range(12))
REQUEST = ModelRequest("m", (ChatMessage("user", "Erdbeerkuchen"),))
ANSWER = ModelAnswer("Mehl kaufen", usage_reported=True, prompt_tokens=3, completion_tokens=2)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def keys(material: bytes = MATERIAL, run: uuid.UUID = RUN) -> JournalKeys:
    with DataKey(bytearray(material)) as data_key:
        return JournalKeys(data_key, run)


def journal() -> Journal:
    made = Journal()
    with DataKey(bytearray(MATERIAL)) as data_key:
        made.seal(data_key, RUN)
    return made


def hkdf(info: bytes) -> bytes:
    """RFC 5869 by hand: one block of SHA-256."""
    extracted = hmac.digest(RUN.bytes, MATERIAL, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def test_what_an_answer_carries_is_sealed_with_it():
    call = ToolCall("1", "n", carried={"extra_content": "Himbeeren"})
    thinking = ModelAnswer(None, (call,), carried={"reasoning_content": "Erdbeeren"})
    text = journal().written("d", thinking)
    assert "beeren" not in text
    assert journal().read("d", text) == thinking


@given(TEXT, TEXT)
def test_what_was_kept_opens_to_the_same(digest: str, answer: str):
    assert keys().opened(digest, keys().sealed(digest, answer, IV)) == answer


def test_the_keys_are_derived_as_documented():
    assert keys().digest(b"x") == hmac.new(hkdf(DIGESTS_INFO), b"x", "sha256").hexdigest()
    assert ANSWERS_INFO != DIGESTS_INFO
    text = keys().sealed("d", "a", IV)
    from state.sealing.values import opened

    with DataKey(bytearray(hkdf(ANSWERS_INFO))) as key:
        assert opened(text, key) == ["d", "a"]


def test_no_flipped_byte_of_a_kept_answer_is_opened():
    text = keys().sealed("digest", "Mehl kaufen", IV)
    parts = [base64.b64decode(part) for part in text.removeprefix("enc:1:").split(".")]
    for place, part in enumerate(parts):
        for at in range(len(part)):
            for mask in (1, 0x80, 0xFF):
                raw = bytearray(part)
                raw[at] ^= mask
                changed = [*parts[:place], bytes(raw), *parts[place + 1 :]]
                wire = "enc:1:" + ".".join(base64.b64encode(each).decode() for each in changed)
                with pytest.raises(SealingError):
                    keys().opened("digest", wire)


@pytest.mark.parametrize("cut", range(3, 20))  # base64 forgives its padding
def test_a_broken_off_answer_is_not_opened(cut: int):
    with pytest.raises(SealingError):
        keys().opened("d", keys().sealed("d", "a", IV)[:-cut])


@pytest.mark.parametrize(
    "other", [keys(run=uuid.UUID(int=8)), keys(material=bytes(32))], ids=["run", "grant"]
)
def test_another_run_or_grant_opens_nothing_and_finds_nothing(other: JournalKeys):
    with pytest.raises(SealingError):
        other.opened("d", keys().sealed("d", "a", IV))
    assert other.digest(b"x") != keys().digest(b"x")


def test_an_answer_to_another_request_is_not_taken():
    with pytest.raises(SealingError):
        keys().opened("that", keys().sealed("this", "a", IV))


def test_a_plain_answer_is_not_taken_for_a_kept_one():
    with pytest.raises(SealingError):
        keys().opened("d", '{"content":"a"}')


def test_wiped_keys_do_nothing_any_more():
    text, wiped = keys().sealed("d", "a", IV), keys()
    wiped.wipe()
    wiped.wipe()
    for use in (
        lambda: wiped.digest(b"x"),
        lambda: wiped.sealed("d", "a", IV),
        lambda: wiped.opened("d", text),
    ):
        with pytest.raises(ValueError, match="wiped"):
            use()


# --- the journal of a run -------------------------------------------------------------------------


def test_a_run_without_secrets_keeps_plain_answers():
    plain = Journal()
    digest = plain.digest(REQUEST)
    assert digest == request_hash(REQUEST)
    assert "Mehl" in plain.written(digest, ANSWER)
    assert plain.read(digest, plain.written(digest, ANSWER)) == ANSWER
    plain.wipe()


def test_a_run_with_secrets_keeps_nothing_readable_and_no_hash_that_confirms_a_guess():
    kept = journal()
    digest = kept.digest(REQUEST)
    text = kept.written(digest, ANSWER)
    assert text.startswith("enc:1:")
    assert digest not in (request_hash(REQUEST), hashlib.sha256(b"Erdbeerkuchen").hexdigest())
    assert kept.written(digest, ANSWER) != text, "a fresh iv each time"
    assert journal().digest(REQUEST) == digest, "another attempt finds it"
    assert journal().read(digest, text) == ANSWER


@given(st.text(max_size=40), st.booleans())
def test_what_cannot_be_read_was_not_kept(text: str, is_secret: bool):
    kept = journal() if is_secret else Journal()
    assert kept.read("d", text) is None


def test_a_wiped_journal_never_falls_back_to_plain_text():
    kept = journal()
    kept.wipe()
    with pytest.raises(ValueError, match="wiped"):
        kept.digest(REQUEST)
    with pytest.raises(ValueError, match="wiped"):
        kept.written("d", ANSWER)


# --- a grant that ends between two records --------------------------------------------------------

REFS = tuple(InputRef("notes", "notes", f"n{place}") for place in range(3))
GRANT: Mapping[str, Any] = {"derivation": {"recordIds": [f"notes:n{n}" for n in range(3)]}}


async def read_until(expires_at: int) -> tuple[list[ReadRecord], Exception | None]:
    """The audit of three records, where the clock says 1, 2, 3 in turn."""
    told: list[ReadRecord] = []
    ticks = iter((1, 2, 3))
    key = DataKey(bytearray(MATERIAL))
    records = frozenset(f"notes:{ref.id}" for ref in REFS)

    @asynccontextmanager
    async def ask() -> AsyncGenerator[HeldKey]:
        yield HeldKey(
            key, uuid.UUID(int=1), ("notes",), records, None, expires_at, lambda: next(ticks)
        )

    made = sealed_record({"id": "n", "content": "x"}, ("content",), key, lambda: IV)

    async def copies(wanted: Sequence[InputRef]) -> Mapping[tuple[str, str], KeptCopy]:
        return {(ref.table, ref.id): KeptCopy(made, None, 0) for ref in wanted}

    async def note(_held: HeldKey, outcomes: Sequence[ReadRecord]) -> None:
        told.extend(outcomes)

    try:
        records_of = {(ref.table, ref.id): Snapshot(made, {}) for ref in REFS}
        await open_sealed(Sources({}, REFS, records_of), GRANT, copies, ask, note)
    except Unreadable as exc:
        return told, exc
    return told, None


async def test_after_the_grant_has_ended_no_further_record_is_opened():
    told, error = await read_until(expires_at=2)
    assert [(one.status, one.reason) for one in told] == [
        ("ok", None),
        ("ok", None),  # equal is still valid
        ("failed", "grant-expired-while-reading"),
    ]
    assert isinstance(error, Unreadable)
    assert error.code == "expired"


async def test_within_the_grants_time_every_record_is_opened():
    told, error = await read_until(expires_at=3)
    assert ([one.status for one in told], error) == (["ok"] * 3, None)
