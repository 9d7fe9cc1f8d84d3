"""What an agent's login may reach in Postgres, judged by rules from facts of its catalogue.

There is no list of what is allowed: everything granted to that login or to everybody is looked at,
in any schema. The few relations that the rules pass over are in `HARMLESS`, each with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import msgspec

OWN_ROWS = "(user_id = ( SELECT mana_ai.capability_user() AS capability_user))"
"""What a table's restrictive policy says; the log's also knows spaces and scope."""

HARMLESS = {"mana_ai.install": "one row: when this database was taken into use"}
"""Relations without people's rows that agents read."""

OUR_SCHEMA = "mana_ai"
READER = "capability"
"""Gives null without a valid capability; its own text is compared with the one we shipped."""
DEMANDER = "require_capability"
"""Raises without a valid capability; its text is compared likewise."""

_FIXED_PATH = re.compile(r'^search_path=pg_catalog(, "?\w+"?)*, pg_temp$')
_COMMENTS_AND_TEXTS = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'", re.DOTALL)
_CALL = re.compile(rf"\b{OUR_SCHEMA}\.(\w+)\(")
_DECLARED = re.compile(r"^\s*DECLARE\b((?!\bBEGIN\b).)*:=\s*$", re.DOTALL)
_BEGUN = re.compile(
    r"^\s*(DECLARE\b((?!\bBEGIN\b).)*)?\bBEGIN\s+(PERFORM\s+|RETURN\s+|\w+\s*:=\s*)$", re.DOTALL
)
_CATCHES = re.compile(r"\bEXCEPTION\s+WHEN\b", re.IGNORECASE)
_ACTS = re.compile(
    r"\b(SELECT|INSERT|UPDATE|DELETE|EXECUTE|CALL|COPY|LOCK|set_config)\b", re.IGNORECASE
)


class Relation(msgspec.Struct, frozen=True):
    """A table, view or sequence that an agent's login may do something with.

    `fences` are the texts of its restrictive policies that ask for the capability.
    """

    name: str
    kind: str
    owner: str
    is_agents_own: bool
    is_the_log: bool
    is_enabled: bool
    is_forced: bool
    is_invokers: bool
    is_read: bool
    writes: Sequence[str]
    fences: Sequence[str]


class SqlFunction(msgspec.Struct, frozen=True):
    """A function of ours, or one that an agent's login may call.

    `trusted_extension` is None where it belongs to no extension.
    """

    schema: str
    name: str
    arguments: str
    language: str
    is_trusted_language: bool
    is_definer: bool
    is_parsed: bool
    owner: str
    search_path: str
    body: str
    touches_relations: bool
    is_agents: bool
    is_agents_own: bool
    trusted_extension: bool | None

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}({self.arguments})"


def relation_faults(relations: Iterable[Relation], owners: Sequence[str]) -> list[str]:
    """What is wrong about each; `owners` are the roles that may own what agents read."""
    return [fault for one in relations for fault in _relation_faults(one, owners)]


def _relation_faults(one: Relation, owners: Sequence[str]) -> Iterator[str]:
    if one.is_agents_own:
        yield f"{one.name} is its own"
        return
    if one.writes:
        what = "sequence" if one.kind == "S" else "writes"
        yield f"{what}: {', '.join(f'{one.name} {write}' for write in one.writes)}"
    if not one.is_read or one.kind == "S" or one.name in HARMLESS:
        return
    if one.kind == "v":
        if not one.is_invokers:
            yield f"view {one.name} shows what its owner {one.owner} sees"
        return
    if one.kind not in ("r", "p"):
        yield f"{one.name} can be read and has no row security"
        return
    if not one.is_the_log and one.owner not in owners:
        yield f"{one.name} can be read and belongs to {one.owner}"
    if not (one.is_enabled and one.is_forced):
        yield f"{one.name} can be read and is not forced"
    asks_for_scope = any("capability_scope()" in fence for fence in one.fences)
    if not (asks_for_scope if one.is_the_log else OWN_ROWS in one.fences):
        yield f"{one.name} has no fence for agents"


def function_faults(functions: Sequence[SqlFunction], owners: Sequence[str]) -> list[str]:
    """What is wrong about those that agents may call, by name."""
    demanding = demanding_functions(functions, owners)
    return [
        f"{one} {fault}"
        for one in functions
        if one.is_agents and one.trusted_extension is None
        for fault in _function_faults(one, demanding, owners)
    ]


def _function_faults(one: SqlFunction, demanding: set[str], owners: Sequence[str]) -> Iterator[str]:
    if one.is_agents_own:
        yield "is its own"
    elif not one.is_trusted_language:
        yield f"may be called and is written in {one.language}"
    elif one.is_definer:
        if one.owner not in owners or not is_fixed(one):
            yield f"may be called and runs as {one.owner}, search path fixed: {is_fixed(one)}"
        if not (is_asking(one) or _demands(one, demanding)):
            yield "may be called and demands no capability"


def foreign_extension_functions(functions: Iterable[SqlFunction]) -> list[str]:
    """Callable functions of extensions that only a superuser could install."""
    return [str(one) for one in functions if one.is_agents and one.trusted_extension is False]


def is_fixed(one: SqlFunction) -> bool:
    """Whether nobody can plant a name in it: system names come first, temporary ones last."""
    return _FIXED_PATH.match(one.search_path) is not None


def is_asking(one: SqlFunction) -> bool:
    """Whether it does nothing but tell what the capability says, if there is one."""
    if one.schema == OUR_SCHEMA and one.name == READER and one.language == "plpgsql":
        return True
    calls = set(_CALL.findall(one.body))
    is_pure = one.language == "sql" and one.is_parsed and not one.touches_relations
    return is_pure and calls == {READER}


def demanding_functions(functions: Sequence[SqlFunction], owners: Sequence[str]) -> set[str]:
    """Names in our schema whose first act, in every overload, is to demand a capability."""
    ours = [one for one in functions if one.schema == OUR_SCHEMA and one.owner in owners]
    demanding = {DEMANDER}
    while True:
        found = {one.name for one in ours if _demands(one, demanding)} - demanding
        found -= {one.name for one in ours if one.name in found and not _demands(one, demanding)}
        if not found:
            return demanding
        demanding |= found


def _demands(one: SqlFunction, demanding: set[str]) -> bool:
    """Whether nothing comes before the call of a demanding function."""
    if one.language != "plpgsql":
        return False
    body = _COMMENTS_AND_TEXTS.sub(" ", one.body)
    first = _CALL.search(body)
    if first is None or first[1] not in demanding:
        return False
    before = body[: first.start()]
    if _ACTS.search(before) is not None:
        return False
    is_begun = _BEGUN.match(before) is not None and _CATCHES.search(body) is None
    return _DECLARED.match(before) is not None or is_begun
