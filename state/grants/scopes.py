"""What a grant covers, in the one form that issuer, client and runner derive keys from.

Lists are sorted by UTF-16 code units, as JavaScript sorts. The bounds keep a scope readable for the
person who consents, and a comma in an id would make two v1 scopes read the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence

import msgspec

from state.errors import StateError, TerminalError

MAX_RECORDS = 1000
MAX_TABLES = 32
MAX_ID_BYTES = 512
_TABLE = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f,\ud800-\udfff]")


class ScopeRefused(StateError, TerminalError):
    """A scope that nobody may grant; `field` is `tables` or `recordIds`, and no id is quoted."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field, self.problem = field, problem

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


class Scope(msgspec.Struct, frozen=True):
    """Tables and `table:id` records of one grant, sorted."""

    tables: tuple[str, ...]
    record_ids: tuple[str, ...]


def in_order(texts: Iterable[str]) -> tuple[str, ...]:
    """Sorted by UTF-16 code units."""
    return tuple(sorted(texts, key=lambda text: text.encode("utf-16-be", "surrogatepass")))


def granted_scope(tables: Sequence[str], record_ids: Sequence[str]) -> Scope:
    """The scope of a new grant: bounded, well formed, each entry once; raises ScopeRefused."""
    scope = Scope(in_order(set(tables)), in_order(set(record_ids)))
    _require(0 < len(scope.tables) <= MAX_TABLES, "tables", f"must be 1 to {MAX_TABLES}")
    _require(0 < len(record_ids) <= MAX_RECORDS, "recordIds", f"must be 1 to {MAX_RECORDS}")
    _require(all(map(_TABLE.match, scope.tables)), "tables", "must be plain table names")
    for record in scope.record_ids:
        table, separator, name = record.partition(":")
        _require(bool(separator and name), "recordIds", "must be table:id")
        _require(table in scope.tables, "recordIds", "must name a listed table")
        _require(not _UNSAFE.search(name), "recordIds", "must have no comma or control character")
        _require(len(record.encode()) <= MAX_ID_BYTES, "recordIds", f"over {MAX_ID_BYTES} bytes")
    return scope


def scope_text(tables: Iterable[str], record_ids: Iterable[str]) -> str:
    """HKDF's info of a v1 grant: joined with commas, duplicates kept, nothing escaped."""
    listed, records = ",".join(in_order(tables)), ",".join(in_order(record_ids))
    return f"mana-ai-mission-grant:v1:tables={listed}:ids={records}"


def hashed_scope_text(user_id: str, mission_id: str, scope: Scope) -> str:
    """HKDF's info of a v2 grant: one length for any number of records, and no two scopes alike."""
    text = canonical([user_id, mission_id, list(scope.tables), list(scope.record_ids)])
    return f"mana-ai-mission-grant:v2:{hashlib.sha256(text).hexdigest()}"


def canonical(parts: list[object]) -> bytes:
    """A list of texts and lists as JSON without blanks, the same bytes as JSON.stringify gives."""
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _require(holds: bool, field: str, problem: str) -> None:
    if not holds:
        raise ScopeRefused(field, problem)
