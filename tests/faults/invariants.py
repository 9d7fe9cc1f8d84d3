"""What holds after every fault: I1 to I4 and I6 to I8, read past all row security."""

import asyncio
import json
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from state.log import merge
from tests.postgres import SUPERUSER, Database

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

QUIET = """
SELECT (SELECT count(*) FROM mana_ai.change_feed) AS feed,
       (SELECT count(*) FROM mana_ai.runs WHERE state = 'open'
            OR (state = 'waiting' AND not_before < clock_timestamp())) AS runs,
       (SELECT count(*) FROM mana_ai.mission_snapshots WHERE wake_at <= clock_timestamp()) AS due,
       (SELECT count(*) FROM mana_ai.run_requests WHERE closed_at IS NULL) AS requests
"""

TABLES = (
    ("aiMissions", "mission_snapshots", "mission_id"),
    ("agents", "agent_snapshots", "agent_id"),
)
LOGGED = """
SELECT s.user_id AS owner, s.{key} AS key, c.id, c.created_at, c.op, c.data, c.field_meta,
       EXISTS (SELECT FROM mana_ai.quarantine AS q WHERE q.change_id = c.id AND q.forced) AS forced
  FROM mana_ai.{snapshots} AS s CROSS JOIN LATERAL mana_ai.record_rows(s.user_id, $1, s.{key}) AS c
 ORDER BY c.created_at, c.id"""

# Each names one kind of broken promise; a row is a violation.
CHECKS = {
    "I1: a closed run without exactly one row of its own in the log": """
        SELECT r.user_id, r.mission_id, r.due_at, r.state, count(c.id) FROM mana_ai.runs AS r
          LEFT JOIN public.sync_changes AS c ON c.user_id = r.user_id AND c.record_id = r.mission_id
               AND c.app_id = 'ai' AND c.client_id = 'mana-ai-runner'
               AND c.actor ->> 'iterationId' = r.iteration_id
         WHERE r.state IN ('committed', 'failed') AND r.healed_at IS NULL
         GROUP BY r.run_id HAVING count(c.id) <> 1""",
    "I1: a withdrawn run that has an iteration": """
        SELECT user_id, mission_id, due_at FROM mana_ai.runs
         WHERE state = 'withdrawn' AND iteration_id IS NOT NULL""",
    "I1: an iteration that is not there exactly once": """
        SELECT r.user_id, r.mission_id, r.iteration_id FROM mana_ai.runs AS r
          JOIN mana_ai.mission_snapshots AS s USING (user_id, mission_id)
         WHERE r.state IN ('committed', 'failed') AND NOT s.hidden
           AND (SELECT count(*) FROM jsonb_array_elements(s.record -> 'iterations') AS i
                 WHERE i ->> 'id' = r.iteration_id) <> 1""",
    "I1: a due occurrence that nobody served": """
        SELECT s.user_id, s.mission_id, s.next_run_at FROM mana_ai.mission_snapshots AS s
         WHERE s.state = 'active' AND s.complete AND s.readable AND NOT s.hidden
           AND s.next_run_at < clock_timestamp() - interval '5 s'
           AND s.decision NOT LIKE 'skipped-%'
           AND NOT EXISTS (SELECT FROM mana_ai.runs AS r WHERE r.user_id = s.user_id
                              AND r.mission_id = s.mission_id AND r.due_at = s.next_run_at)""",
    "I2: a row of ours that no closed run stands behind": """
        SELECT c.user_id, c.record_id, c.created_at FROM public.sync_changes AS c
         WHERE c.client_id = 'mana-ai-runner' AND c.origin = 'agent'
           AND NOT EXISTS (SELECT FROM mana_ai.runs AS r WHERE r.user_id = c.user_id
                 AND r.mission_id = c.record_id AND r.iteration_id = c.actor ->> 'iterationId'
                 AND r.state IN ('committed', 'failed'))""",
    "I3: an agent over its cap": """
        SELECT a.user_id, a.agent_id, sum(t.tokens_used) FROM mana_ai.agent_snapshots AS a
          JOIN mana_ai.token_usage AS t USING (user_id, agent_id)
         WHERE a.max_tokens_per_day IS NOT NULL AND t.ts > clock_timestamp() - interval '24 hours'
         GROUP BY a.user_id, a.agent_id, a.max_tokens_per_day
        HAVING sum(t.tokens_used) > a.max_tokens_per_day""",
    "I3: a hold that outlived its expiry": """
        SELECT call_id, deadline FROM mana_ai.token_holds
         WHERE deadline < clock_timestamp() - interval '10 s'""",
    "I3: more calls charged than were begun": """
        SELECT r.user_id, r.mission_id, r.model_calls, count(*) FROM mana_ai.runs AS r
          JOIN mana_ai.token_usage AS t USING (run_id) GROUP BY r.run_id
        HAVING count(*) > r.model_calls""",
    "I4: a record that was read without an earlier release inside its grant": """
        SELECT d.user_id, d.mission_id, d.table_name, d.record_id, d.ts
          FROM mana_ai.decrypt_audit AS d WHERE d.status = 'ok'
           AND NOT EXISTS (SELECT FROM mana_ai.key_releases AS k WHERE k.release_id = d.release_id
                 AND k.user_id = d.user_id AND k.mission_id = d.mission_id AND k.run_id = d.run_id
                 AND k.outcome = 'released' AND k.ts < d.ts AND k.ts <= k.expires_at
                 AND d.table_name || ':' || d.record_id = ANY (k.record_ids))""",
    "I4: a plan of secrets whose reading is in no audit": """
        SELECT r.user_id, r.mission_id, r.iteration_id FROM mana_ai.runs AS r
          JOIN public.sync_changes AS c ON c.user_id = r.user_id AND c.record_id = r.mission_id
               AND c.client_id = 'mana-ai-runner' AND c.actor ->> 'iterationId' = r.iteration_id
         WHERE EXISTS (SELECT FROM jsonb_array_elements(c.data -> 'iterations') AS i
                        WHERE i ->> 'id' = r.iteration_id AND i ->> 'usedEncryptedInputs' = 'true')
           AND NOT EXISTS (SELECT FROM mana_ai.decrypt_audit AS d WHERE d.run_id = r.run_id
                 AND d.iteration_id = r.iteration_id AND d.status = 'ok' AND d.ts < r.closed_at)""",
    "I7: a run that stays open past its lease, or waits past its time": """
        SELECT user_id, mission_id, state, lease_until, not_before FROM mana_ai.runs
         WHERE (state = 'open' AND lease_until < clock_timestamp() - interval '10 s')
            OR (state = 'waiting' AND not_before < clock_timestamp() - interval '10 s')""",
    "I7: a mission that should have been looked at": """
        SELECT user_id, mission_id, wake_at FROM mana_ai.mission_snapshots
         WHERE wake_at < clock_timestamp() - interval '10 s'""",
    "I7: a journal of a run that is over": """
        SELECT j.run_id, j.round FROM mana_ai.journal AS j JOIN mana_ai.runs AS r USING (run_id)
         WHERE r.state NOT IN ('open', 'waiting')""",
}


def ask(database: Database, statement: str, *args: Any) -> list[asyncpg.Record]:
    """The rows of any statement, as a superuser."""

    async def asked() -> list[asyncpg.Record]:
        connection = await database.connect(SUPERUSER)
        try:
            return await connection.fetch(statement, *args)
        finally:
            await connection.close()

    return asyncio.run(asked())


def wait_until_quiet(database: Database, within_s: float = 30.0) -> None:
    """Return once nothing is due, open or unfolded; raises TimeoutError saying what is left."""
    give_up = time.monotonic() + within_s
    while any((left := dict(ask(database, QUIET)[0])).values()):
        if time.monotonic() > give_up:
            raise TimeoutError(f"not quiet within {within_s} s: {left}")
        time.sleep(0.05)


def check_invariants(database: Database, *, succeeded: int = 1, within_s: float = 30.0) -> None:
    """Wait until all is quiet; then no promise is broken and `succeeded` plans are there."""
    wait_until_quiet(database, within_s)
    broken = {
        name: rows
        for name, statement in CHECKS.items()
        if (rows := [dict(row) for row in ask(database, statement)])
    }
    assert not broken, broken
    assert differing_snapshots(database, within_s) == [], (
        "I6: a snapshot differs from a full replay"
    )
    committed = ask(database, "SELECT count(*) FROM mana_ai.runs WHERE state = 'committed'")[0][0]
    assert committed >= succeeded, f"I8: {committed} of {succeeded} occurrences succeeded"


def differing_snapshots(database: Database, within_s: float = 30.0) -> list[tuple[str, str]]:
    """(user, record) of each snapshot that is not what a full replay of the log gives.

    Read as of one moment at which the feed was empty: staging may write to the log at any time.
    """

    async def compared() -> list[tuple[str, str]] | None:
        connection = await database.connect(SUPERUSER)
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                if await connection.fetchval("SELECT count(*) FROM mana_ai.change_feed"):
                    return None
                return [
                    place
                    for table, snapshots, key in TABLES
                    for place in await _differing(connection, table, snapshots, key)
                ]
        finally:
            await connection.close()

    give_up = time.monotonic() + within_s
    while (differing := asyncio.run(compared())) is None:
        if time.monotonic() > give_up:
            raise TimeoutError(f"the feed was not empty within {within_s} s")
        time.sleep(0.05)
    return differing


async def _differing(
    connection: asyncpg.Connection, table: str, snapshots: str, key: str
) -> list[tuple[str, str]]:
    logged: dict[tuple[str, str], list[merge.Change]] = defaultdict(list)
    for row in await connection.fetch(LOGGED.format(snapshots=snapshots, key=key), table):
        change = merge.read_change(
            str(row["id"]),
            (row["created_at"] - _EPOCH) // timedelta(microseconds=1),
            "unknown" if row["forced"] else row["op"],
            row["data"],
            row["field_meta"],
            user_id=row["owner"],
            record_id=row["key"],
        )
        logged[(row["owner"], row["key"])].append(change)
    rows = await connection.fetch(f"SELECT *, {key} AS key FROM mana_ai.{snapshots}")
    return [
        place
        for row in rows
        if _differs(row, logged.get(place := (row["user_id"], row["key"]), []))
    ]


def _differs(row: asyncpg.Record, changes: list[merge.Change]) -> bool:
    whole = merge.fold(None, changes)
    kept = (row["present"], row["complete"], row["folded_count"], row["folded_digest"])
    return (whole.exists, whole.complete, whole.count, whole.digest) != kept or json.loads(
        merge.encode_record(whole)
    ) != json.loads(row["record"])
