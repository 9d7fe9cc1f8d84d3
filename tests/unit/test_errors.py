"""An error says by its roots whether trying again helps, and whether it is `state`'s."""

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import state
from state.errors import StateError, TerminalError, TransientError

OTHER_MODULES_WITH_ERRORS = (
    "mana_actors.errors",
    "mana_actors.keys.client",
    "mana_actors.llm.router.aliases.registry",
    "mana_actors.processes",
)


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    for module in pkgutil.walk_packages(state.__path__, "state."):
        importlib.import_module(module.name)
    for name in OTHER_MODULES_WITH_ERRORS:
        importlib.import_module(name)


def kinds(root: type[Exception]) -> Iterator[type[Exception]]:
    for kind in root.__subclasses__():
        yield kind
        yield from kinds(kind)


def of_package(name: str) -> set[type[Exception]]:
    every = {*kinds(TransientError), *kinds(TerminalError), *kinds(StateError)}
    return {kind for kind in every if kind.__module__.startswith(f"{name}.")}


def test_every_error_of_state_is_caught_as_one_and_says_whether_it_may_pass():
    assert len(of_package("state")) >= 20
    for kind in of_package("state"):
        assert issubclass(kind, StateError), kind
        assert issubclass(kind, TransientError | TerminalError), kind


def test_no_error_of_a_process_is_taken_for_one_of_state():
    assert len(of_package("mana_actors")) >= 8
    for kind in of_package("mana_actors"):
        assert not issubclass(kind, StateError), kind


def test_no_error_both_may_pass_and_may_not():
    assert {*kinds(TransientError)}.isdisjoint(kinds(TerminalError))
