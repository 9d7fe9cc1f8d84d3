"""What signs of life mean: which part is not as it should be, in words, and what helps. Pure.

A supervisor that is dead cannot say so; its shard's row can. What was not looked at says nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from math import inf
from typing import Any, Literal, get_args

import msgspec

from state.store.gateway.fleet import Shard
from state.troubles import DatabaseTrouble
from supervisor.health.room import MB, Room
from supervisor.node.settings import BUCKETS, Settings

SERVICE = "mana-ai"
FOLD_STUCK_S = 30.0
START_S = 30.0
"""A new holder's time to begin; also what a look at a due mission may be late before it counts."""
HELD_S = 3.0
"""A commit holds a record for a moment; so long is somebody's open transaction."""
WAITED_S = 2.0
"""Our own statements wait for each other for a moment; so long is a transaction left open."""
UNLOOKED_S = 10.0
CLOCK_S = 5.0
LOGS = "see mana logs"

Part = Literal[
    "lookout", "database", "disk", "raylet", "gcs", "shards", "tick", "fold", "supervisor",
    "router", "keys", "runs", "clock",
]  # fmt: skip
PARTS: tuple[Part, ...] = get_args(Part)


class Blocker(msgspec.Struct, frozen=True):
    """A session that keeps ours waiting: whose it is, and for how long we have waited."""

    pid: int
    login: str
    waited_s: float


class KeyDoor(msgspec.Struct, frozen=True):
    """The key holder as agents meet it: how many keys it has, or why it is silent."""

    keys: int | None = None  # None: it did not say
    silent: str = ""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What was found; `None` where it could not be asked, or was not."""

    shards: Sequence[Shard] | None = None
    database: DatabaseTrouble | None = None
    is_read_only: bool = False
    overdue: int = 0  # missions that should have been looked at 30 s ago or longer
    failed: int = 0  # runs that failed in the last hour
    blockers: Sequence[Blocker] = ()
    supervisor: dict[str, Any] | None = None
    rooms: Mapping[str, Room] = {}
    short: Sequence[str] = ()
    silent_disk_s: float = 0.0
    ray: Mapping[str, str] = {}  # what is wrong with `raylet` and `gcs`
    router: str | None = None  # why it is silent
    keys: KeyDoor | None = None
    clock_jump_s: float = 0.0
    unlooked_s: float = 0.0


class Sign(msgspec.Struct, frozen=True):
    """One part that is not as it should be; `is_failing` where work or answers suffer."""

    part: Part
    what: str
    remedy: str
    is_failing: bool = True

    def __str__(self) -> str:
        return f"{self.part}: {self.what}; {self.remedy}"


class FleetHealth(msgspec.Struct, frozen=True):
    """Fit for work or not, with everything that is not as it should be.

    `content` is for operators; `public` says which parts fail, and nothing else.
    """

    is_ok: bool
    signs: Sequence[Sign]
    content: dict[str, Any]
    public: dict[str, Any]

    @property
    def serves(self) -> bool:
        """Whether requests of people can be answered here."""
        return not any(sign.is_failing and sign.part in _SERVING for sign in self.signs)


_SERVING: frozenset[Part] = frozenset({"database", "lookout"})


def health(facts: Facts, settings: Settings, version: str) -> FleetHealth:
    """What `/health` answers."""
    signs = list(_signs(facts, settings))
    failing = [sign for sign in signs if sign.is_failing]
    warnings = [sign for sign in signs if not sign.is_failing]
    is_ok = not failing
    shards, told = facts.shards, facts.supervisor or {}
    lags = [_age(shard, shard.folded_at) for shard in shards or ()]
    is_ticking = bool(shards) and all(shard.ticked_at is not None for shard in shards or ())
    tick: dict[str, Any] = {"enabled": settings.tick_enabled, "running": False, "stuck": False}
    if settings.tick_enabled and shards is not None:
        is_stuck = any(sign.part == "tick" for sign in failing)
        running = is_ticking and not is_stuck
        tick |= {"running": running, "stuck": is_stuck, "overdue": facts.overdue}
    barred = told.get("barred")
    public = {
        "ok": is_ok,
        "status": "failing" if failing else "warning" if warnings else "well",
        "service": SERVICE,
        "version": version,
        "failing": list(dict.fromkeys(sign.part for sign in failing)),
    }
    content = public | {
        "tick": tick,
        "fold": {
            "lag_s": round(max(lags), 1) if lags else None,
            "stuck": any(lag > FOLD_STUCK_S for lag in lags),
            "waiting": told.get("feed_waiting"),
            "held": told.get("held", 0) if facts.supervisor is not None else None,
            "held_s": told.get("held_s", 0.0) if facts.supervisor is not None else None,
        },
        "agents": {"barred": None if barred is None else len(barred)},
        "runs": {"overdue": facts.overdue, "failed_last_hour": facts.failed},
        "rooms": {
            name: {
                "folder": room.reserve.path,
                "free_mb": room.free_bytes // MB,
                "free_inodes": room.free_inodes,
                "is_short": name in facts.short,
            }
            for name, room in facts.rooms.items()
        },
        "problems": [str(sign) for sign in failing],
        "warnings": [str(sign) for sign in warnings],
        "signs": msgspec.to_builtins(signs),
    }
    return FleetHealth(is_ok, signs, content, public)


def _signs(facts: Facts, settings: Settings) -> Iterator[Sign]:
    if facts.unlooked_s > UNLOOKED_S:
        what = f"nobody has looked for {facts.unlooked_s:.0f} s; all else is as it was then"
        if facts.unlooked_s == inf:
            what = "nobody has looked yet"
        yield Sign("lookout", what, "wait some seconds; if it lasts, restart the node")
    yield from _machine(facts)
    yield from _database(facts)
    if facts.shards is not None:
        yield from _shards(facts.shards, settings)
        if facts.overdue:
            over = "over " if facts.overdue >= 1000 else ""
            what = f"{over}{facts.overdue} missions have been due for {START_S:.0f} s and more"
            yield Sign("runs", what, "mana missions says what each waits for", is_failing=False)
        if facts.failed:
            what = f"{facts.failed} failed in the last hour"
            yield Sign("runs", what, "mana runs --state failed says why", is_failing=False)
    yield from _supervisor(facts)
    if facts.router is not None:
        what = f"the model router does not answer ({facts.router}); no run can ask a model"
        yield Sign("router", what, f"the node starts it again; {LOGS}, mana llm status")
    yield from _keys(facts)
    if facts.clock_jump_s:
        what = f"this machine's clock jumped by {facts.clock_jump_s:+.0f} s, or differs so from"
        what += " the database's"
        yield Sign("clock", what, "look at NTP on both machines", is_failing=False)


def _machine(facts: Facts) -> Iterator[Sign]:
    for name in facts.short:
        if (room := facts.rooms.get(name)) is None:
            continue
        reserve = room.reserve
        what = f"{name} {reserve.path} has {room.free_bytes // MB} MB"
        if room.free_inodes is not None and reserve.least_inodes:
            what += f" and {room.free_inodes} inodes"
        what += f" left, below {reserve.least_bytes // MB} MB"
        if reserve.least_inodes:
            what += f" or {reserve.least_inodes} inodes"
        yield Sign("disk", f"{what}: no run begins", "make room; runs go on by themselves then")
    if facts.silent_disk_s > HELD_S:
        what = f"a file system has not answered for {facts.silent_disk_s:.0f} s"
        yield Sign("disk", what, "look at the mounts of the data folder and of Ray's")
    if what := facts.ray.get("raylet"):
        remedy = "the node starts Ray again; if it lasts: mana down, mana up"
        yield Sign("raylet", f"{what}: no new process can start", remedy)
    if what := facts.ray.get("gcs"):
        remedy = "the node starts Ray again; a head of your own Ray is yours to start"
        yield Sign("gcs", f"{what}: no process can be placed or found", remedy)


def _database(facts: Facts) -> Iterator[Sign]:
    if facts.database is not None:
        yield Sign("database", facts.database.what, facts.database.remedy)
    elif facts.is_read_only:
        remedy = "name the primary in SYNC_DATABASE_URL, or promote this server"
        yield Sign("database", "it is read-only", remedy)
    for blocker in facts.blockers:
        if blocker.waited_s > WAITED_S:
            what = f"session {blocker.pid} of {blocker.login} has kept the supervisor waiting for"
            what += f" {blocker.waited_s:.0f} s"
            yield Sign("fold", what, f"end it: SELECT pg_terminate_backend({blocker.pid})")


def _shards(shards: Sequence[Shard], settings: Settings) -> Iterator[Sign]:
    patience_s = max(START_S, 3 * settings.tick_interval_ms / 1000)
    for shard in shards if settings.tick_enabled else ():
        if (age := _age(shard, shard.ticked_at)) > patience_s:
            what = f"shard {shard.shard} has not looked for due missions for {age:.0f} s"
            yield Sign("tick", what, LOGS)
    for shard in shards:
        if (age := _age(shard, shard.folded_at)) > FOLD_STUCK_S:
            what = f"shard {shard.shard} has not read the change feed for {age:.0f} s"
            yield Sign("fold", what, LOGS)
    covered = sum(shard.bucket_hi - shard.bucket_lo for shard in shards)
    if not shards:
        yield Sign("shards", "none; the supervisor has not started", LOGS)
    elif covered != BUCKETS:  # the users of the others are served by nobody
        what = f"{BUCKETS - covered} of {BUCKETS} buckets belong to no shard"
        yield Sign("shards", what, "start a node with MANA_BUCKETS for them")


def _supervisor(facts: Facts) -> Iterator[Sign]:
    told = facts.supervisor
    if told is None:
        if facts.shards is not None:
            yield Sign("supervisor", "does not answer", f"Ray starts it again if it died; {LOGS}")
        return
    held, held_s = told.get("held", 0), told.get("held_s", 0.0)
    if held_s > HELD_S:
        who = ", ".join(
            f"session {one['pid']} of {one['login']}" for one in told.get("held_by") or ()
        )
        what = f"{held} records cannot be written for up to {held_s:.0f} s, because"
        what += f" {who or 'transactions'} hold{'s' if who and ',' not in who else ''} them"
        remedy = "others are folded meanwhile; end the session with pg_terminate_backend"
        yield Sign("fold", what, remedy, is_failing=held_s > FOLD_STUCK_S)
    if told.get("problem"):
        yield Sign("supervisor", str(told["problem"]), LOGS)
    waits = told.get("waits_for_room") or ()
    if waits and not facts.short:  # its machine is another one, or its look is the newer
        what = f"it has nearly no room in its {', '.join(waits)}: no run begins"
        yield Sign("disk", what, "make room there; runs go on by themselves then")


def _keys(facts: Facts) -> Iterator[Sign]:
    """Nobody misses a key where no mission has a grant."""
    door, has_grants = facts.keys, bool((facts.supervisor or {}).get("has_grants"))
    if door is None or not has_grants:
        return
    if door.silent:
        what = f"the key holder does not answer ({door.silent}); runs with encrypted inputs wait"
        yield Sign("keys", what, f"the node starts it again; {LOGS}")
    elif door.keys == 0:
        what = "missions have grants, and the key holder has no key: their runs are refused"
        yield Sign("keys", what, "mana keys new, or put runner-*.pem back; then restart the node")


def _age(shard: Shard, at: datetime | None) -> float:
    """Seconds since something was last done, or since the holder took the shard."""
    since = shard.taken_at if at is None else max(at, shard.taken_at)
    return max(0.0, (shard.now - since).total_seconds())
