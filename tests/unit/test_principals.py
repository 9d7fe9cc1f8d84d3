from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.log.principals import normalize_actor, system_actor, user_actor
from tests.vectors.actors import (
    is_ai_actor,
    is_from_mission_runner,
    origin_from_actor,
)

_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
_parts = st.fixed_dictionaries(
    {"kind": st.sampled_from(["user", "ai", "system", "robot", 1])},
    optional={"principalId": _json, "displayName": _json, "source": _json, "missionId": _json},
)


def test_a_whole_actor_is_the_same_object():
    actor = {"kind": "ai", "principalId": "a", "displayName": "A", "extra": 1}
    assert normalize_actor(actor) is actor


@given(_json | _parts)
def test_every_actor_becomes_one_with_text_names(raw: Any):
    actor = normalize_actor(raw)
    assert actor["kind"] in ("user", "ai", "system")
    assert isinstance(actor["principalId"], str)
    assert isinstance(actor["displayName"], str)


@pytest.mark.parametrize(
    ("raw", "principal", "name"),
    [
        ({"kind": "user", "principalId": 5}, "legacy:user", "Du"),
        ({"kind": "system"}, "legacy:system", "Unbekannt"),
        ({"kind": "system", "source": "cron"}, "system:cron", "Unbekannt"),
        ({"kind": "system", "source": "mission-runner"}, "system:mission-runner", "Mission-Runner"),
        ({"kind": "ai"}, "legacy:ai-default", "Unbekannt"),
        (None, "legacy:user", "Unbekannt"),
    ],
)
def test_a_damaged_actor_gets_legacy_names(raw: Any, principal: str, name: str):
    actor = normalize_actor(raw)
    assert (actor["principalId"], actor["displayName"]) == (principal, name)


def test_origin_follows_the_actor():
    assert origin_from_actor(user_actor("u")) == "user"
    assert origin_from_actor(system_actor("system:migration")) == "migration"
    assert origin_from_actor(system_actor("system:rule")) == "system"


def test_predicates_accept_a_missing_actor():
    assert not is_ai_actor(None)
    assert not is_from_mission_runner(None)
