"""What a worker hands over, and what must be equal for a fork to go on in its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mana_actors.fork_server import variables
from mana_actors.fork_server.request import ARGUMENTS, OWN_ARGUMENTS, StartRequest

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
NAMES = st.text(st.characters(exclude_characters="\0=", exclude_categories=["Cs"]), min_size=1)


def request(**changed: str) -> StartRequest:
    values = dict.fromkeys(ARGUMENTS, "x") | {"--runtime-env-hash": "0"} | changed
    command = ["python", "default_worker.py", *(f"{k}={v}" for k, v in values.items())]
    return StartRequest(command, {"RAY_JOB_ID": "01", "RAY_AUTH_MODE": "token"}, "/")


@given(st.lists(TEXTS, min_size=1), st.dictionaries(NAMES, TEXTS), TEXTS)
def test_what_is_handed_over_arrives(command: list[str], environment: dict[str, str], folder: str):
    sent = StartRequest(command, environment, folder)
    came = StartRequest.from_wire(sent.to_wire())
    assert (came.command, came.environment, came.folder) == (command, environment, folder)


def test_a_name_that_is_no_utf_8_arrives():
    sent = StartRequest(["python\udcff"], {}, "/\udcfe")
    assert StartRequest.from_wire(sent.to_wire()).folder == "/\udcfe"


@pytest.mark.parametrize("raw", [b"", b"\0", b"x\0a\0b", b"0\0a", b"-1\0a\0b", b"3\0a\0b", b"\xff"])
def test_anything_else_is_refused(raw: bytes):
    with pytest.raises(ValueError):
        StartRequest.from_wire(raw)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_workers_of_one_node_differ_in_nothing_but_their_own(name: str):
    assert request(**{name: "y"}).is_like(request()) == (name in OWN_ARGUMENTS)


def test_a_worker_with_an_environment_of_its_own_is_of_no_kind_that_was_tried():
    assert request().is_of_a_kind_tried
    assert not request(**{"--runtime-env-hash": "1"}).is_of_a_kind_tried
    assert not request(**{"--more": "1"}).is_of_a_kind_tried


def test_the_path_that_was_there_stays_behind_ours():
    given_ = variables("/forks", "/a:/b")
    ours, *rest = given_["PYTHONPATH"].split(":")
    assert ours.endswith("mana_actors/fork_server/on_path")
    assert rest == ["/a", "/b"]
    assert variables("/forks", None)["PYTHONPATH"] == variables("/forks", "")["PYTHONPATH"] == ours
