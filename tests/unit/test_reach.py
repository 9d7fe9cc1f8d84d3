"""What counts as demanding a capability first, from the text of a function."""

import msgspec
import pytest

from state.rules.reach import Relation, SqlFunction, function_faults, relation_faults

OWNERS = ("mana_owner",)
PLANTED = SqlFunction(
    schema="mana_ai",
    name="planted",
    arguments="",
    language="plpgsql",
    is_trusted_language=True,
    is_definer=True,
    is_parsed=False,
    owner="mana_owner",
    search_path="search_path=pg_catalog, pg_temp",
    body="",
    touches_relations=False,
    is_agents=True,
    is_agents_own=False,
    trusted_extension=None,
)
OWN_RUN = msgspec.structs.replace(
    PLANTED,
    name="own_run",
    is_agents=False,
    is_definer=False,
    body="DECLARE held jsonb := mana_ai.require_capability(); BEGIN RETURN held; END",
)


def faults(body: str = "", **more: object) -> list[str]:
    one = msgspec.structs.replace(PLANTED, body=body, **more)
    return function_faults([one, OWN_RUN], OWNERS)


DEMANDING = [
    "BEGIN PERFORM mana_ai.require_capability(); RETURN 1; END",
    "BEGIN held := mana_ai.require_capability(); DELETE FROM mana_ai.runs; END",
    "DECLARE n int := 1; held jsonb := mana_ai.require_capability(); BEGIN RETURN n; END",
    "DECLARE run mana_ai.runs := mana_ai.own_run(p_run, 1); BEGIN DELETE FROM mana_ai.runs; END",
    "-- why\nDECLARE\n  run mana_ai.runs := mana_ai.own_run(p_run, 1);\nBEGIN\nEND",
    "DECLARE h jsonb := mana_ai.require_capability(); BEGIN EXCEPTION WHEN OTHERS THEN END",
]
UNASKING = [
    "BEGIN RETURN 1; END",
    "-- := mana_ai.require_capability()\nBEGIN RETURN 1; END",
    "/* BEGIN PERFORM mana_ai.require_capability() */ BEGIN RETURN 1; END",
    "DECLARE t text := ' := mana_ai.require_capability()'; BEGIN RETURN 1; END",
    "DECLARE t text := $t$ mana_ai.require_capability() $t$; BEGIN RETURN 1; END",
    "BEGIN IF false THEN PERFORM mana_ai.require_capability(); END IF; END",
    "BEGIN IF x THEN BEGIN PERFORM mana_ai.require_capability(); END; END IF; END",
    "BEGIN held := CASE WHEN x THEN mana_ai.require_capability() END; END",
    "BEGIN DELETE FROM mana_ai.runs; PERFORM mana_ai.require_capability(); END",
    "BEGIN PERFORM mana_ai.lock_installation(); PERFORM mana_ai.require_capability(); END",
    "DECLARE n int := (SELECT 1 FROM mana_ai.runs); h jsonb := mana_ai.require_capability(); BEGIN",
    "BEGIN PERFORM mana_ai.require_capability(); EXCEPTION WHEN OTHERS THEN RETURN 2; END",
    "DECLARE held jsonb := mana_ai.capability(); BEGIN RETURN 1; END",
    "DECLARE held jsonb := mana_ai.acting_user(); BEGIN RETURN 1; END",
]


@pytest.mark.parametrize("body", DEMANDING)
def test_a_function_that_demands_a_capability_first_is_sound(body: str) -> None:
    assert faults(body) == []


@pytest.mark.parametrize("body", UNASKING)
def test_a_function_that_does_anything_else_first_is_named(body: str) -> None:
    assert faults(body) == ["mana_ai.planted() may be called and demands no capability"]


def test_a_function_is_as_demanding_as_its_least_demanding_overload() -> None:
    lax = msgspec.structs.replace(OWN_RUN, arguments="text", body="BEGIN RETURN 1; END")
    user = msgspec.structs.replace(PLANTED, body="BEGIN PERFORM mana_ai.own_run(1); END")
    assert function_faults([user, OWN_RUN], OWNERS) == []
    assert len(function_faults([user, OWN_RUN, lax], OWNERS)) == 1


def test_sql_that_only_tells_what_the_capability_says_is_sound() -> None:
    asking = {"language": "sql", "is_parsed": True}
    assert faults("RETURN (mana_ai.capability() ->> 'u'::text)", **asking) == []
    assert faults("RETURN (mana_ai.capability() ->> 'u'::text)", language="sql")
    assert faults("RETURN mana_ai.capability()", **asking, touches_relations=True)
    assert faults("RETURN mana_ai.sign_payload(mana_ai.capability())", **asking)


@pytest.mark.parametrize(
    "path",
    ["", "search_path=pg_catalog", "search_path=pg_temp, pg_catalog", "search_path=public, pg_temp",
     "search_path=pg_catalog, pg_temp, public"],
)  # fmt: skip
def test_a_search_path_that_can_be_planted_into_is_named(path: str) -> None:
    (fault,) = faults(DEMANDING[0], search_path=path)
    assert "search path fixed: False" in fault


def test_functions_that_run_as_their_caller_only_need_a_trusted_language() -> None:
    assert faults("BEGIN RETURN 1; END", is_definer=False) == []
    (fault,) = faults("", is_definer=False, language="c", is_trusted_language=False)
    assert fault == "mana_ai.planted() may be called and is written in c"
    assert faults("", is_definer=False, language="c", trusted_extension=True) == []


TABLE = Relation(
    name="mana_ai.kept",
    kind="r",
    owner="mana_owner",
    is_agents_own=False,
    is_the_log=False,
    is_enabled=True,
    is_forced=True,
    is_invokers=False,
    is_read=True,
    writes=(),
    fences=("(user_id = ( SELECT mana_ai.capability_user() AS capability_user))",),
)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, None),
        ({"fences": ()}, "mana_ai.kept has no fence for agents"),
        ({"fences": ("(true OR (mana_ai.capability_user() = user_id))",)},
         "mana_ai.kept has no fence for agents"),
        ({"is_forced": False}, "mana_ai.kept can be read and is not forced"),
        ({"owner": "postgres"}, "mana_ai.kept can be read and belongs to postgres"),
        ({"writes": ("DELETE", "MAINTAIN")},
         "writes: mana_ai.kept DELETE, mana_ai.kept MAINTAIN"),
        ({"is_read": False, "fences": ()}, None),
        ({"kind": "m"}, "mana_ai.kept can be read and has no row security"),
        ({"kind": "f"}, "mana_ai.kept can be read and has no row security"),
        ({"kind": "v"}, "view mana_ai.kept shows what its owner mana_owner sees"),
        ({"kind": "v", "is_invokers": True}, None),
        ({"is_agents_own": True}, "mana_ai.kept is its own"),
        ({"kind": "S", "writes": ("USAGE",)}, "sequence: mana_ai.kept USAGE"),
        ({"is_the_log": True, "owner": "mana_sync"}, "mana_ai.kept has no fence for agents"),
    ],
)  # fmt: skip
def test_what_agents_may_read_is_fenced_and_nothing_is_theirs_to_write(
    change: dict[str, object], fault: str | None
) -> None:
    found = relation_faults([msgspec.structs.replace(TABLE, **change)], OWNERS)
    assert found == ([fault] if fault else [])
