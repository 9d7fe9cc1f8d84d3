"""A person's client: pushes changes, pulls what others wrote, in the sync service's form."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

from state.store.sync_log import LoggedRow, LogRow, SyncLog

Change = dict[str, Any]
"""One change on the wire."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class DemoClient:
    """One device of one person."""

    def __init__(self, user_id: str, log: SyncLog) -> None:
        self.user_id, self._log = user_id, log
        self.client_id = f"demo-{user_id}"

    async def push(self, app_id: str, changes: Sequence[Change]) -> datetime:
        """Send changes; the instant the log gives them."""
        rows = [row_of(app_id, change) for change in changes]
        return await self._log.push(self.user_id, self.client_id, rows)

    async def pull(self, app_id: str, table: str, since: datetime = EPOCH) -> list[Change]:
        """What other clients wrote since, oldest first."""
        rows = await self._log.pull(self.user_id, app_id, table, since, self.client_id)
        return [change_of(row) for row in rows]


def row_of(app_id: str, change: Change) -> LogRow:
    """How a change becomes a row of the log, as the sync service stores it."""
    fields = change.get("fields")
    data, meta = change.get("data"), dict[str, Any]()
    space = change.get("spaceId") or _fields(data).get("spaceId")
    if change["op"] == "update" and isinstance(fields, dict):
        sent = cast("dict[str, dict[str, Any]]", fields)
        data = {name: field["value"] for name, field in sent.items()}
        meta = {name: field["at"] for name, field in sent.items()}
    elif change["op"] == "delete":
        deleted = {"deletedAt": change["deletedAt"]} if "deletedAt" in change else {}
        data = _fields(data) | deleted
    return LogRow(
        app_id=app_id,
        table_name=change["table"],
        record_id=change["id"],
        op=change["op"],
        data=data,
        field_meta=meta,
        actor=change.get("actor"),
        origin=change.get("origin"),
        space_id=space if isinstance(space, str) and space else None,
    )


def change_of(row: LoggedRow) -> Change:
    """How a row travels: of an update only the fields that carry a stamp."""
    change: Change = {
        "eventId": row.id,
        "schemaVersion": row.schema_version,
        "table": row.table_name,
        "id": row.record_id,
        "op": row.op,
    }
    data = _fields(row.data)
    if row.op == "insert":
        change["data"] = row.data
    elif row.op == "update":
        change["fields"] = {
            field: {"value": data[field], "at": at}
            for field, at in row.field_meta.items()
            if field in data
        }
    elif isinstance(data.get("deletedAt"), str):
        change["deletedAt"] = data["deletedAt"]
    more = {"spaceId": row.space_id, "actor": row.actor, "origin": row.origin}
    return change | {name: value for name, value in more.items() if value}


def _fields(raw: object) -> dict[str, Any]:
    return cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
