from __future__ import annotations

import base64
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.sealing.values import (
    CiphertextMalformed,
    CiphertextRejected,
    DataKey,
    DecryptFailed,
    SealingError,
    opened,
    opened_record,
    sealed,
    sealed_record,
)
from tests.unit.test_grant_vectors import KEY, wire

IV = bytes(range(12))
MDK = "7538df66c51d3ddb667c0135feb4ac7c2800ba372babc7e61e9423d6a9a65628"
WIRES = [
    ("Private Titel", "lXfrX6FYhrd22r+D5BOstCNQqFIIjUtXX0yb3M86Pw=="),
    (
        "geheimer Inhalt äöü \u2013 ✓",
        "lUD8XrJQn7ckrp+Z6R7idTByAQNmzQ0eL042ruuy3Y98jZDSDQapqJPOVmRikHQO",
    ),
    ({"markdown": "x"}, "zAX0V6VSlr0h4PTNowesfH5enrcsbAAtnlMa1CZbX/0="),
    (["a", 1, {"nested": True}], "7AX4FPsI3ql04LOE9RrqIyrF17W1c+xgxFFw33eoOkfviDrqLX2p"),
    (42, "gxVncIV761lyh4YqboHxeIdK"),
    (True, "w1XsU3pNvYr7VG6Jg9fALn04GEg="),
    ("", "lQX/Q5vOjiOXfRD4KUAu2zaR"),
]
PLAIN = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda t: t[:6] != "enc:1:")
JSON: st.SearchStrategy[Any] = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | PLAIN,
    lambda inner: st.lists(inner | st.none()) | st.dictionaries(PLAIN, inner | st.none()),
)  # fmt: skip


def key() -> DataKey:
    return DataKey(bytearray(KEY))


def refused(text: str) -> bool:
    try:
        opened(text, key())
    except (CiphertextMalformed, CiphertextRejected):
        return True
    return False


@pytest.mark.parametrize(("value", "body"), WIRES)
def test_the_wire_is_the_specifications(value: Any, body: str):
    with DataKey(bytearray.fromhex(MDK)) as mdk:
        assert sealed(value, mdk, IV) == f"enc:1:AAECAwQFBgcICQoL.{body}"


@given(JSON, st.binary(min_size=12, max_size=12))
def test_what_was_sealed_opens_to_the_same(value: Any, iv: bytes):
    assert opened(sealed(value, key(), iv), key()) == value


@given(PLAIN, st.data())
def test_every_changed_character_is_refused(text: str, data: st.DataObject):
    whole = sealed(text, key(), IV)
    at = data.draw(st.integers(6, len(whole) - 1))
    other = data.draw(st.sampled_from("AZaz09+/=.!").filter(lambda c: c != whole[at]))
    changed = whole[:at] + other + whole[at + 1 :]
    idle = at >= len(whole) - 3  # the last bits of base64 may carry nothing
    assert refused(changed) or (idle and opened(changed, key()) == text)


def test_every_flipped_bit_is_refused():
    iv, body = IV, wire(b'"Titel"').partition(".")[2]
    whole = iv + base64.b64decode(body)
    for bit in range(8 * len(whole)):
        raw = bytearray(whole)
        raw[bit // 8] ^= 1 << bit % 8
        parts = (base64.b64encode(p).decode() for p in (raw[:12], raw[12:]))
        with pytest.raises(CiphertextRejected):
            opened("enc:1:" + ".".join(parts), key())


def test_another_key_is_refused():
    with pytest.raises(CiphertextRejected), DataKey(bytearray(32)) as other:
        opened(sealed("Titel", key(), IV), other)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("enc:1:", CiphertextMalformed),
        ("enc:1:nodot", CiphertextMalformed),
        ("enc:1:AAAA.AAAA", CiphertextMalformed),
        (f"enc:1:AAECAwQFBgcICQoL.{'A' * 20}", CiphertextMalformed),
        (f"enc:1:AAECAwQFBgcICQo.{'A' * 40}", CiphertextMalformed),
        (f"enc:1:AAECAwQFBgcICQoL.{'A' * 40}", CiphertextRejected),
        (wire(b"\xff"), DecryptFailed),
        (wire(b"{"), DecryptFailed),
        (wire(b""), DecryptFailed),
        (wire(b"NaN"), DecryptFailed),
        (wire(b"-Infinity"), DecryptFailed),
        (wire(b"1e400"), DecryptFailed),
        (wire(b"[" * 100_000), DecryptFailed),
        (wire(b"9" * 5000), DecryptFailed),
    ],
)
def test_an_error_is_named_by_its_kind(text: str, error: type[SealingError]):
    with pytest.raises(error) as caught:
        opened(text, key())
    assert caught.value.args == ()  # nothing of what was read
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
    assert type(again) is error


def test_null_and_what_is_sealed_already_stay_as_they_are():
    once = sealed("Titel", key(), IV)
    assert (sealed(None, key(), IV), sealed(once, key(), IV)) == (None, once)


def test_a_lone_surrogate_survives_sealing_and_never_comes_out():
    assert opened(sealed("a\ud83d", key(), IV), key()) == "a\ufffd"
    assert opened(wire(rb'{"\ud83d": ["\ude42", "\ud83d\ude42"]}'), key()) == {
        "\ufffd": ["\ufffd", "🙂"]
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}])
def test_what_json_cannot_say_is_not_sealed(value: Any):
    with pytest.raises((ValueError, TypeError)):
        sealed(value, key(), IV)


def test_a_record_is_sealed_field_by_field_under_fresh_ivs():
    ivs = iter(bytes([n]) * 12 for n in range(9))
    record = {"id": "n1", "title": "T", "content": None, "tags": ["a"]}
    whole = sealed_record(record, ("title", "content", "tags"), key(), lambda: next(ivs))
    assert (whole["id"], whole["content"]) == ("n1", None)
    assert whole["title"][:22] != whole["tags"][:22]
    found = opened_record(whole, key())
    assert (found.record, found.fields) == (record, ("title", "tags"))


def test_a_record_with_one_bad_field_gives_nothing():
    whole = {"title": sealed("T", key(), IV), "content": "enc:1:nodot"}
    with pytest.raises(CiphertextMalformed):
        opened_record(whole, key())


def test_a_key_is_wiped_when_its_block_ends_also_by_an_error():
    material = bytearray(KEY)
    with pytest.raises(ZeroDivisionError), DataKey(material):
        raise ZeroDivisionError
    assert material == bytes(32)
    with pytest.raises(ValueError), DataKey(bytearray(31)):
        pass


def test_a_wiped_key_opens_nothing():
    used = key()
    text = sealed("Titel", used, IV)
    used.wipe()
    used.wipe()
    with pytest.raises(ValueError, match="wiped"):
        opened(text, used)


def test_a_key_is_neither_printed_nor_pickled():
    assert repr(key()) == "DataKey(...)"
    with pytest.raises(TypeError):
        pickle.dumps(key())
