"""Rows of the log and of snapshots as our statements select them, read once for all stores."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import asyncpg
import msgspec

from state.log import merge
from state.log.merge import Change, Snapshot


def logged_change(row: asyncpg.Record, user_id: str, record_id: str) -> Change:
    """A row of the log; its time is `created_us`, in microseconds."""
    return merge.read_change(
        str(row["id"]),
        row["created_us"],
        row["op"],
        row["data"],
        row["field_meta"],
        user_id=user_id,
        record_id=record_id,
    )


def unfolded_changes(rows: Iterable[dict[str, Any]], user_id: str) -> list[Change]:
    """Rows of one record as functions return them in JSON."""
    return [
        merge.read_change(
            change["id"],
            change["created_at"],
            change["op"],
            change["data"],
            change["field_meta"],
            user_id=user_id,
        )
        for change in rows
    ]


def stored_snapshot(stored: dict[str, Any] | None) -> Snapshot | None:
    """A snapshot's row, decoded from JSON, as the merge takes it; None where there is none."""
    if stored is None:
        return None
    record = msgspec.json.encode(stored["record"])
    return merge.decode_record(record, exists=stored["present"], complete=stored["complete"])
