"""Whether the fold and the tick do their work, judged from the database alone.

A supervisor that is dead cannot say so; its shard's row can.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from state.store.gateway.fleet import Shard
from supervisor.node.settings import BUCKETS, Settings

SERVICE = "mana-ai"
FOLD_STUCK_S = 30.0
START_S = 30.0
"""A new holder's time to begin; also what a look at a due mission may be late before it counts."""


class Facts(msgspec.Struct, frozen=True):
    """What was found; `None` where it could not be asked."""

    shards: Sequence[Shard] | None
    overdue: int = 0  # missions that should have been looked at 30 s ago or longer
    supervisor: dict[str, Any] | None = None


class FleetHealth(msgspec.Struct, frozen=True):
    """Fit for work or not, with every problem in words."""

    is_ok: bool
    content: dict[str, Any]


def health(facts: Facts, settings: Settings, version: str) -> FleetHealth:
    """What `/health` answers."""
    problems: list[str] = []
    shards = facts.shards
    tick: dict[str, Any] = {"enabled": settings.tick_enabled, "running": False, "stuck": False}
    fold: dict[str, Any] = {"lag_s": None, "stuck": False, "waiting": None, "held": None}
    if shards is None:
        problems.append("database: does not answer")
    else:
        tick |= _tick(shards, facts.overdue, settings, problems)
        ages = {shard.shard: _age(shard, shard.folded_at) for shard in shards}
        stuck = {shard: age for shard, age in ages.items() if age > FOLD_STUCK_S}
        problems += [
            f"fold: shard {shard} has not read the change feed for {age:.0f} s"
            for shard, age in stuck.items()
        ]
        lag_s = round(max(ages.values()), 1) if ages else None
        fold |= {"lag_s": lag_s, "stuck": bool(stuck)}
        covered = sum(shard.bucket_hi - shard.bucket_lo for shard in shards)
        if not shards:
            problems.append("shards: none; the supervisor has not started")
        elif covered != BUCKETS:  # the users of the others are served by nobody
            problems.append(f"shards: {BUCKETS - covered} of {BUCKETS} buckets belong to no shard")
    if facts.supervisor is not None:
        held, held_s = facts.supervisor.get("held", 0), facts.supervisor.get("held_s", 0.0)
        fold |= {"waiting": facts.supervisor.get("feed_waiting"), "held": held, "held_s": held_s}
        if held_s > FOLD_STUCK_S:
            problems.append(
                f"fold: {held} records cannot be written for up to {held_s:.0f} s, because"
                " transactions hold them"
            )
        if facts.supervisor.get("problem"):
            problems.append(f"supervisor: {facts.supervisor['problem']}")
    elif shards is not None:
        problems.append("supervisor: does not answer")
    barred = facts.supervisor.get("barred") if facts.supervisor is not None else None
    is_ok = not (problems or tick["stuck"] or fold["stuck"])
    content = {
        "ok": is_ok,
        "service": SERVICE,
        "version": version,
        "tick": tick,
        "fold": fold,
        "agents": {"barred": None if barred is None else len(barred)},
        "problems": problems,
    }
    return FleetHealth(is_ok, content)


def _tick(
    shards: Sequence[Shard], overdue: int, settings: Settings, problems: list[str]
) -> dict[str, Any]:
    """Running: every shard scans. Stuck: none for three intervals; overdue ones only mean load."""
    if not settings.tick_enabled:
        return {}
    patience_s = max(START_S, 3 * settings.tick_interval_ms / 1000)
    stuck = [shard for shard in shards if _age(shard, shard.ticked_at) > patience_s]
    problems.extend(
        f"tick: shard {shard.shard} has not looked for due missions for"
        f" {_age(shard, shard.ticked_at):.0f} s"
        for shard in stuck
    )
    running = bool(shards) and all(shard.ticked_at is not None for shard in shards) and not stuck
    return {"running": running, "stuck": bool(stuck), "overdue": overdue}


def _age(shard: Shard, at: datetime | None) -> float:
    """Seconds since something was last done, or since the holder took the shard."""
    since = shard.taken_at if at is None else max(at, shard.taken_at)
    return max(0.0, (shard.now - since).total_seconds())
