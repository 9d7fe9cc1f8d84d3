"""The original's behaviour with each rule of ours as a switch: slow, plain, no code of `state`.

With no rule on, it gives what the original gives; with all of them, what we must give. So "does
this rule matter for this input" has an exact answer, and overrides need no list of cases.
"""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

from croniter import croniter

Row = dict[str, Any]
Rules = frozenset[str]

FOLD_RULES = frozenset(
    {
        "instants",  # compare instants, not text; an unparsable stamp is none
        "normal-stamps",  # store stamps in one form
        "object-stamps",  # an object stamp counts by its `at`
        "internal-fields",  # id, __fieldMeta, _updatedAtIndex are never data
        "later-insert",  # a later insert is as old as its updatedAt or createdAt
        "undelete",  # rows after a hard delete start a new record
        "soft-delete",  # a delete row with deletedAt writes that field
        "quarantine",  # a row with an unknown op, or data that is no object, is skipped
        "one-merge",  # every reader folds alike
        "late-rows",  # a row that sorts before those folded still counts
        "deleted-nonnull",  # deletedAt counts unless it is null or empty
    }
)
DUE_RULES = FOLD_RULES | {
    "complete",  # a record without an insert row is never due
    "due-instants",  # nextRunAt is a text that names an instant
    "tolerant-fields",  # a field of a wrong type is empty
}
ALL_RULES = DUE_RULES

_TEXT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ]([0-9]{2}:[0-9]{2})(:[0-9]{2}(?:\.([0-9]{1,9}))?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?"
)
_INTERNAL = ("id", "__fieldMeta", "_updatedAtIndex")


def nanoseconds(text: str) -> int | None:
    """The instant in ns since 1970, or None."""
    found = _TEXT.fullmatch(text)
    if found is None:
        return None
    day, clock, seconds, fraction, offset = found.groups()
    if clock is not None and clock.startswith("24"):
        return None
    zone = "+00:00" if offset in (None, "Z") else offset
    try:
        moment = datetime.fromisoformat(f"{day}T{clock or '00:00'}{(seconds or ':00')[:3]}{zone}")
        elapsed = moment - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return (elapsed // timedelta(seconds=1)) * 10**9 + int(f"{fraction or ''}000000000"[:9])


def normal_text(instant: int) -> str:
    """UTC text with as many digits (3, 6 or 9) as the instant needs."""
    seconds, fraction = divmod(instant, 10**9)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    digits = f"{fraction:09d}"
    while len(digits) > 3 and digits.endswith("000"):
        digits = digits[:-3]
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{digits}Z"


# --- one stamp ----------------------------------------------------------------------------------


def _stamp_text(raw: object, projection: str, rules: Rules) -> str:
    if isinstance(raw, dict):
        if projection == "resolver" and "object-stamps" not in rules:
            return "[object Object]"
        raw = cast("dict[str, Any]", raw).get("at")
    return raw if isinstance(raw, str) else ""


def _object(row: Row, column: str) -> Row:
    value: object = row[column]
    return cast("Row", value) if isinstance(value, dict) else {}


def _created(row: Row, rules: Rules) -> str:
    instant = nanoseconds(row["created_at"]) or 0
    return normal_text(instant if "instants" in rules else instant // 10**6 * 10**6)


def _stamp(row: Row, field: str, fallback: str, projection: str, rules: Rules) -> str:
    text = _stamp_text(_object(row, "field_meta").get(field), projection, rules)
    if not text or ("instants" in rules and nanoseconds(text) is None):
        return fallback
    return text


def _fallback(row: Row, rules: Rules) -> str:
    if row["op"] == "insert" and "later-insert" in rules:
        for field in ("updatedAt", "createdAt"):
            text = _object(row, "data").get(field)
            if isinstance(text, str) and nanoseconds(text) is not None:
                return text
    return _created(row, rules)


def _at_least(incoming: str, current: str | None, rules: Rules) -> bool:
    if current is None:
        return True
    if "instants" in rules:
        return (nanoseconds(incoming) or 0) >= (nanoseconds(current) or 0)
    return incoming.encode("utf-16-be") >= current.encode("utf-16-be")


# --- one record ---------------------------------------------------------------------------------


class Record:
    """A record being replayed."""

    def __init__(self) -> None:
        self.fields: Row | None = None
        self.stamps: dict[str, str] = {}
        self.complete = False
        self.gone = False  # the original looks at nothing after a delete


def replay(rows: list[Row], projection: str, rules: Rules) -> Record:
    """The record after `rows`, in the order given."""
    record = Record()
    for row in rows:
        defective = row["op"] not in ("insert", "update", "delete") or not isinstance(
            row["data"], dict | None
        )
        if record.gone or (defective and "quarantine" in rules):
            continue
        record.complete = record.complete or row["op"] == "insert"
        if row["op"] == "delete":
            _replay_delete(record, row, projection, rules)
        else:
            _replay_write(record, row, projection, rules)
    return record


def _replay_delete(record: Record, row: Row, projection: str, rules: Rules) -> None:
    deleted_at = _object(row, "data").get("deletedAt")
    if "soft-delete" in rules and deleted_at not in (None, ""):
        usable = isinstance(deleted_at, str) and nanoseconds(deleted_at) is not None
        stamp = str(deleted_at) if usable else _created(row, rules)
        _write(record, "deletedAt", deleted_at, stamp, rules)
        return
    record.fields, record.stamps = None, {}
    record.gone = "undelete" not in rules and projection not in ("import", "replay")


def _replay_write(record: Record, row: Row, projection: str, rules: Rules) -> None:
    data = _object(row, "data")
    skipped = _INTERNAL if "internal-fields" in rules else ()
    forgetful = projection in ("import", "replay") and "one-merge" not in rules
    if record.fields is not None:
        for field in data:
            if field not in skipped:
                stamp = _stamp(row, field, _fallback(row, rules), projection, rules)
                _write(record, field, data[field], stamp, rules)
        return
    if forgetful and row["data"] is None:
        return
    record.fields = {field: data[field] for field in data if field not in skipped}
    if projection == "replay" and "one-merge" not in rules:
        return
    for field in _object(row, "field_meta"):
        if field not in skipped:
            record.stamps[field] = _stamp(row, field, _created(row, rules), projection, rules)


def _write(record: Record, field: str, value: object, stamp: str, rules: Rules) -> None:
    if _at_least(stamp, record.stamps.get(field), rules):
        record.fields = {**(record.fields or {}), field: value}
        record.stamps[field] = stamp


def is_deleted(fields: Row, rules: Rules) -> bool:
    value = fields.get("deletedAt")
    return value not in (None, "") if "deleted-nonnull" in rules else bool(value)


# --- suite lww ----------------------------------------------------------------------------------


def lww(given: Row, rules: Rules) -> Any:
    """The expected value of a case of lww.json under `rules`."""
    if given["projection"] == "incremental":
        return {"after": _incremental(given["batches"], rules)}
    rows: list[Row] = given["rows"]
    record_id = rows[0]["record_id"] if rows else ""
    record = replay(rows, given["projection"], rules)
    return {"record": _shown(record, record_id, given["projection"], rules)}


def _shown(record: Record, record_id: str, projection: str, rules: Rules) -> Row | None:
    if record.fields is None:
        return None
    if projection in ("agent", "resolver") and is_deleted(record.fields, rules):
        return None
    shown = {"id": record_id, **record.fields}
    shown.pop("__fieldMeta", None)
    if projection not in ("import", "resolver"):
        shown["__fieldMeta"] = {field: _kept(text, rules) for field, text in record.stamps.items()}
    return shown


def _kept(text: str, rules: Rules) -> str:
    instant = nanoseconds(text)
    return text if instant is None or "normal-stamps" not in rules else normal_text(instant)


def _incremental(batches: list[list[Row]], rules: Rules) -> list[Row]:
    log: list[Row] = []
    kept: dict[tuple[str, str], list[Row]] = {}
    after: list[Row] = []
    for batch in batches:
        log = log + batch
        for key in dict.fromkeys((row["user_id"], row["record_id"]) for row in log):
            kept[key] = _rows_seen(log, key, kept.get(key, []), rules)
        after.append({"snapshots": _snapshots(kept, rules)})
    return after


def _rows_seen(log: list[Row], key: tuple[str, str], seen: list[Row], rules: Rules) -> list[Row]:
    mine = [row for row in log if (row["user_id"], row["record_id"]) == key]
    mine.sort(key=lambda row: nanoseconds(row["created_at"]) or 0)
    gone = replay(seen, "snapshot", rules).fields is None  # then the original replays it whole
    if "late-rows" in rules or not seen or gone:
        return mine
    cursor = _created(seen[-1], frozenset())
    known = {id(row) for row in seen}
    fresh = [row for row in mine if normal_text(nanoseconds(row["created_at"]) or 0) > cursor]
    return seen + [row for row in fresh if id(row) not in known]


def _snapshots(kept: dict[tuple[str, str], list[Row]], rules: Rules) -> list[Row]:
    found: list[Row] = []
    for user_id, record_id in sorted(kept):
        rows = kept[user_id, record_id]
        shown = _shown(replay(rows, "snapshot", rules), record_id, "snapshot", rules)
        if shown is not None:
            found.append({"user_id": user_id, "mission_id": record_id, "record": shown})
    return found


# --- suite due ----------------------------------------------------------------------------------


def due(given: Row, rules: Rules) -> Any:
    """The expected value of a case of due.json under `rules`."""
    projection = "replay" if given["path"] == "replay" else "snapshot"
    rows = [row for row in given["rows"] if row["user_id"] == given["userId"]]
    missions: list[Row] = []
    for record_id in sorted({row["record_id"] for row in rows}):
        mine = [row for row in rows if row["record_id"] == record_id]
        record = replay(mine, projection, rules)
        if record.fields is not None and _due(record, given["now"], rules):
            shown_id = record.fields.get("id", record_id)
            missions.append(
                {"id": shown_id, "userId": given["userId"]} | _mission(record.fields, rules)
            )
    return {"missions": missions}


def _due(record: Record, now: str, rules: Rules) -> bool:
    fields = record.fields or {}
    if "complete" in rules and not record.complete:
        return False
    at = fields.get("nextRunAt")
    if fields.get("state") != "active" or is_deleted(fields, rules) or not at:
        return False
    if "due-instants" not in rules:
        return not isinstance(at, str) or at.encode("utf-16-be") <= now.encode("utf-16-be")
    instant = nanoseconds(at) if isinstance(at, str) else None
    return instant is not None and instant <= (nanoseconds(now) or 0)


def _mission(fields: Row, rules: Rules) -> Row:
    tolerant = "tolerant-fields" in rules
    mission: Row = {field: _text(fields.get(field), tolerant) for field in ("title", "objective")}
    mission["conceptMarkdown"] = _text(fields.get("conceptMarkdown"), tolerant)
    mission |= {"state": fields["state"], "nextRunAt": fields["nextRunAt"]}
    for field in ("inputs", "iterations"):
        entries: object = fields.get(field)
        mission[field] = cast("list[Any]", entries) if isinstance(entries, list) else []
    if tolerant:
        mission["inputs"] = [part for part in map(_input, mission["inputs"]) if part]
        mission["iterations"] = [
            entry for entry in mission["iterations"] if isinstance(entry, dict)
        ]
    if "cadence" in fields:
        mission["cadence"] = fields["cadence"]
    grant, agent_id = fields.get("grant"), fields.get("agentId")
    if isinstance(grant, dict) or (grant is not None and not tolerant):
        mission["grant"] = grant
    if isinstance(agent_id, str) and (agent_id or not tolerant):
        mission["agentId"] = agent_id
    return mission


def _input(entry: object) -> Row | None:
    if not isinstance(entry, dict):
        return None
    parts = {part: cast("Row", entry).get(part) for part in ("module", "table", "id")}
    return parts if all(isinstance(part, str) and part for part in parts.values()) else None


def _text(value: object, tolerant: bool) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return str(int(value)) if value.is_integer() else str(value)
        case _:
            return "" if tolerant else "[object Object]"


# --- suite cadence ------------------------------------------------------------------------------


def cadence_fault(cadence: Row) -> bool:
    """Whether a value is none that a cadence can have."""
    ranges = {"daily": {"atHour": 23, "atMinute": 59}, "weekly": {"dayOfWeek": 6, "atHour": 23}}
    if cadence.get("kind") == "interval":
        minutes = cadence.get("everyMinutes")
        if isinstance(minutes, bool) or not isinstance(minutes, int | float):
            return True
        return not (math.isfinite(minutes) and minutes >= 1)
    parts = ranges.get(str(cadence.get("kind")), {})
    return any(
        isinstance(cadence.get(part), bool) or cadence.get(part) not in range(highest + 1)
        for part, highest in parts.items()
    )


def next_run(given: Row, *, shifted: bool) -> str | None:
    """When a cadence in range runs next; `shifted` counts from the gap-shifted time, as once."""
    cadence, zone = given["cadence"], ZoneInfo(given["tz"])
    start = datetime.fromisoformat(given["from"])
    if cadence["kind"] not in ("interval", "daily", "weekly") or cadence_fault(cadence):
        return None
    if cadence["kind"] == "interval":
        return _ms_text(start + timedelta(minutes=cadence["everyMinutes"]))
    today = start.astimezone(zone).date()
    at = time(
        int(cadence["atHour"]), int(cadence.get("atMinute", 0)) if cadence["kind"] == "daily" else 0
    )
    days: list[int] = [0, 1, 2]
    if cadence["kind"] == "weekly":
        ahead = (int(cadence["dayOfWeek"]) - (today.weekday() + 1)) % 7
        days = [ahead, ahead + 7]
    if shifted:
        at = _wall(today, at, zone).astimezone(zone).time()
    for ahead in days:
        moment = _wall(today + timedelta(days=ahead), at, zone)
        if moment > start:
            return _ms_text(moment)
    return None


def next_match(given: Row) -> str | None:
    """When a readable cron expression of a case runs next, away from changes of the clock."""
    cadence, zone = given["cadence"], ZoneInfo(given["tz"])
    if cadence["kind"] != "cron" or not croniter.is_valid(cadence.get("expression") or ""):
        return None
    wall = datetime.fromisoformat(given["from"]).astimezone(zone).replace(tzinfo=None)
    found: datetime = croniter(cadence["expression"], wall).get_next(datetime)
    return _ms_text(_wall(found.date(), found.time(), zone))


def _wall(day: date, at: time, zone: ZoneInfo) -> datetime:
    """The first UTC moment a wall clock shows this; in a gap, by the offset before it."""
    wall = datetime.combine(day, at)
    around = (wall.replace(tzinfo=UTC) + timedelta(hours=hours) for hours in (-26, 26))
    guesses = [wall - (moment.astimezone(zone).utcoffset() or timedelta()) for moment in around]
    moments = [guess.replace(tzinfo=UTC) for guess in guesses]
    shown = [moment for moment in moments if moment.astimezone(zone).replace(tzinfo=None) == wall]
    return min(shown) if shown else moments[0]


def _ms_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- suites policy and iteration ----------------------------------------------------------------


def policy_faults(policy: object) -> set[str]:
    """What is wrong with a policy: `malformed` parts, `unknown` decisions."""
    if policy is None:
        return set()
    if not isinstance(policy, dict):
        return {"malformed"}
    fields = cast("Row", policy)
    maps = [fields.get("tools"), fields.get("defaultsByModule")]
    faults = {"malformed" for part in maps if part is not None and not isinstance(part, dict)}
    if fields.get("tools") is None or fields.get("defaultForAi") in (None, ""):
        faults.add("malformed")
    said = [
        entry for part in maps if isinstance(part, dict) for entry in cast("Row", part).values()
    ]
    known = (None, "", "auto", "propose", "deny")
    faults |= {"unknown" for entry in [*said, fields.get("defaultForAi")] if entry not in known}
    return faults


def decision(name: str, module: str | None, policy: object) -> str:
    """The decision for an agent's call, with all rules on."""
    if policy is None:
        return "propose"
    fields: Row = cast("Row", policy) if isinstance(policy, dict) else {"defaultForAi": "deny"}
    tools: Any = fields.get("tools") or {}
    modules: Any = fields.get("defaultsByModule") or {}
    if not isinstance(tools, dict) or not isinstance(modules, dict):
        return "deny"
    by_tool: object = cast("Row", tools).get(name)
    by_module: object = None if module is None else cast("Row", modules).get(module)
    said: object = by_tool or by_module or fields.get("defaultForAi") or "propose"
    return said if said in ("auto", "propose", "deny") else "deny"


def bounded(iterations: list[Row], keep: int, max_bytes: int) -> list[Row]:
    """The newest iterations within both limits."""
    while len(iterations) > 1 and (len(iterations) > keep or _size(iterations) > max_bytes):
        iterations = iterations[1:]
    return iterations


def _size(iterations: list[Row]) -> int:
    return len(json.dumps(iterations, separators=(",", ":"), ensure_ascii=False).encode()) + 1
