"""`mana doctor`: each check looks at the running database and names the remedy."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from mana_actors.keys.key_files import is_open_to_others
from state.errors import StateError
from state.private_files import open_to_others
from state.rules.reach import foreign_extension_functions, function_faults, relation_faults
from state.store.catalogue import (
    LOOK_AT_MOST,
    Catalogue,
    ServiceView,
    function_sources,
    granted_by_schema,
    open_transaction,
)
from state.store.connect import Access, Database
from state.store.embedded.places import Places
from state.store.gateway.fleet import FleetStore
from state.store.janitor import JanitorStore
from state.store.migrate import GROUP_ROLES, LOGINS, OLDEST_POSTGRES, pending
from state.troubles import trouble_of
from supervisor.health.judgement import Facts, health
from supervisor.node.credentials import RAY_TEMP, ray_place
from supervisor.node.settings import Settings

AGENT = "mana_agent"
GATEWAY = "mana_gateway"
SUPERVISOR = "mana_supervisor"
ISSUER = "mana_issuer"
JANITOR = "mana_janitor"
MIGRATE = "run mana migrate"
TAMPERED = "somebody changed it: restore the schema from a backup, or as in state/store/schema.sql"
_FAULTS_SHOWN = 8
LATE_MISSIONS = 100
"""More missions than this, due for over two minutes, are no passing crowd."""

ADVISED_BYTES = 256_000_000
LOOK_AT_LOG_S = 3.0
COMPACTED_AFTER = timedelta(days=30)
"""From which size of the log on somebody should look at it, for how long we do, and what is old."""

LOG_POLICIES = frozenset(
    {
        "sync_changes_user_isolation",
        "mana_router_read",
        "mana_agent_within_capability",
        "mana_compactor_only",
    }
)


class Finding(msgspec.Struct, frozen=True):
    """What one check found; the remedy is a command or one sentence.

    A warning is worth reading and no fault: `ok` stays true.
    """

    check: str
    ok: bool
    detail: str
    remedy: str
    warning: bool = False


class Patient(msgspec.Struct, frozen=True):
    """What the checks look at."""

    settings: Settings
    dsn: str
    catalogue: Catalogue
    service: ServiceView


Check = Callable[[Patient], Awaitable[Finding]]


async def examined(dsn: str, password: str | None, settings: Settings) -> list[Finding]:
    """Every check in order, with the log owner's address; a check never raises."""
    access = Access(dsn, SUPERVISOR, str(Path(settings.secrets_dir, SUPERVISOR)), "mana-doctor")
    service = ServiceView(access)
    patient = Patient(settings, dsn, Catalogue(dsn, password), service)
    try:
        found: list[Finding] = []
        for check in CHECKS:
            try:
                found.append(await check(patient))
            except (StateError, OSError) as exc:
                name, trouble = check.__name__.replace("_", " "), trouble_of(exc)
                fault = f"could not look: the database: {trouble.what}"
                found.append(Finding(name, ok=False, detail=fault, remedy=trouble.remedy))
        return found
    finally:
        await service.close()


async def postgres_version(patient: Patient) -> Finding:
    """The server is new enough, and nobody passes over row security by owning the log."""
    server = await patient.catalogue.server()
    if server.major < OLDEST_POSTGRES:
        fault = f"Postgres {server.version} is older than {OLDEST_POSTGRES}"
        return _finding("postgres version", [fault], f"upgrade to {OLDEST_POSTGRES} or newer")
    return Finding("postgres version", ok=True, detail=server.version, remedy="")


async def log_owner(patient: Patient) -> Finding:
    """The log is there and its owner is held by row security."""
    server = await patient.catalogue.server()
    faults = [] if server.has_log else ["there is no table public.sync_changes"]
    if server.mighty_owner is not None:
        faults.append(f"its owner {server.mighty_owner} is superuser or passes over row security")
    remedy = "give sync_changes to a plain login: ALTER TABLE public.sync_changes OWNER TO ..."
    return _finding("log owner", faults, remedy if server.has_log else MIGRATE)


async def pending_migrations(patient: Patient) -> Finding:
    """The schema is this release's."""
    applied, texts = await patient.service.applied(), await patient.service.texts()
    return _finding("pending migrations", pending(applied, texts), MIGRATE)


async def roles(patient: Patient) -> Finding:
    """Our roles exist and may nothing but what their grants say."""
    logins = [login.name for login in LOGINS]
    expected = [*GROUP_ROLES, *logins]
    found = await patient.catalogue.roles(expected, logins)
    missing = [f"{name} is missing" for name in expected if name not in found]
    mighty = [f"{name}: {', '.join(faults)}" for name, faults in found.items() if faults]
    remedy = MIGRATE if missing else "ALTER ROLE ... to take it away, REVOKE memberships"
    return _finding("roles", [*missing, *mighty], remedy)


async def role_settings(patient: Patient) -> Finding:
    """Nobody planted defaults on our logins."""
    planted = await patient.catalogue.planted_settings([login.name for login in LOGINS])
    remedy = "ALTER ROLE ... RESET ALL, also IN DATABASE; then mana migrate"
    return _finding("role settings", planted, remedy)


async def password_files(patient: Patient) -> Finding:
    """Each service role's password is in a file that only we can read."""
    folder = Path(patient.settings.secrets_dir)
    faults = [fault for login in LOGINS if (fault := _file_fault(folder / login.name)) is not None]
    return _finding("password files", faults, "run mana migrate; chmod 600 the files")


async def files_of_ours(patient: Patient) -> Finding:
    """Nobody but us reads or writes what a node wrote, Ray's part of it included."""
    faults = await asyncio.to_thread(_reachable, patient.settings)
    more = [f"and {len(faults) - _FAULTS_SHOWN} more"] if len(faults) > _FAULTS_SHOWN else []
    remedy = "chmod what is named, chown it, or remove it where it is not ours"
    return _finding("files of ours", [*faults[:_FAULTS_SHOWN], *more], remedy)


def _reachable(settings: Settings) -> list[str]:
    """What others reach of this node's folders: those in its data directory and those beside it."""
    places, ray = Places(Path(settings.data_dir)), ray_place(Path(settings.data_dir))
    folders = [places.root, Path(settings.secrets_dir), settings.keys_path]
    folders += [ray, settings.key_socket.parent, places.sockets]
    top = [one for one in dict.fromkeys(folders) if not set(one.parents) & set(folders)]
    unseen = (ray / RAY_TEMP, places.data)  # each lies in a folder that is ours alone
    programs = tuple(places.root.glob("pg-*"))
    return [
        fault
        for folder in top
        if folder.exists()
        for fault in open_to_others(folder, unseen=unseen, public=programs)
    ]


async def ray_joined(patient: Patient) -> Finding:
    """Where we join a Ray that others started: its token and its folder are not open to others."""
    if patient.settings.ray_address is None:
        return Finding("ray joined", ok=True, detail="none: it is our own", remedy="")
    found = _finding("ray joined", await asyncio.to_thread(_open_in_ray), _RAY_REMEDY)
    return msgspec.structs.replace(found, ok=True, warning=not found.ok)


_RAY_REMEDY = (
    "start it with umask 077, RAY_AUTH_MODE=token, RAY_AUTH_TOKEN_PATH naming a file of mode 0600,"
    " and --temp-dir in a folder of mode 0700"
)


def _open_in_ray() -> list[str]:
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    folder = Path(os.environ.get("RAY_TMPDIR") or "/tmp", "ray")  # noqa: S108 - where Ray is
    faults: list[str] = []
    if not token.is_file():
        faults.append(f"no token in {token}: who reaches its ports runs code in it")
    elif is_open_to_others(token):
        faults.append(f"{token} can be read by others, who may then run code in it")
    if folder.is_dir() and all(one.stat().st_mode & 0o001 for one in (folder, *folder.parents)):
        faults.append(f"{folder} is open to others, who may take its sockets away")
    return faults


async def feed_trigger(patient: Patient) -> Finding:
    """Every push leaves rows in the feed."""
    faults = await _trigger_faults(patient, "mana_ai_feed", "feed_changes")
    remedy = _trigger_remedy(faults, "mana_ai_feed", "feed_changes")
    return _finding("feed trigger", faults, f"{remedy}; then mana snapshots rebuild")


async def device_trigger(patient: Patient) -> Finding:
    """Every push is noted for the devices that read it."""
    faults = await _trigger_faults(patient, "mana_ai_sync", "note_rows")
    return _finding("device trigger", faults, _trigger_remedy(faults, "mana_ai_sync", "note_rows"))


async def _trigger_faults(patient: Patient, name: str, function: str) -> list[str]:
    found = await patient.catalogue.log_trigger(name, function)
    if found is None:
        return [f"{name} is missing on sync_changes"]
    state, is_ours = found
    faults = [] if state in ("O", "A") else [f"{name} does not fire ({_STATES[state]})"]
    return (
        faults if is_ours else [*faults, f"{name} calls another function than mana_ai.{function}"]
    )


def _trigger_remedy(faults: Sequence[str], name: str, function: str) -> str:
    if any("is missing" in fault for fault in faults):
        return (
            f"CREATE TRIGGER {name} AFTER INSERT ON public.sync_changes REFERENCING NEW TABLE"
            f" AS added FOR EACH STATEMENT EXECUTE FUNCTION mana_ai.{function}()"
        )
    return f"ALTER TABLE public.sync_changes ENABLE TRIGGER {name}"


async def log_size(patient: Patient) -> Finding:
    """How large the log is, and whether compacting it would save much; looks for some seconds."""
    size = await patient.catalogue.log_size()
    if size is None:
        return Finding("log size", ok=True, detail="there is no log", remedy="")
    since = f" since {size.since:%Y-%m-%d}" if size.since else ""
    detail = f"{size.bytes / 1e6:,.0f} MB, about {size.rows:,} rows"
    detail += f", {size.written:,} written{since}"
    if size.bytes < ADVISED_BYTES:
        return Finding("log size", ok=True, detail=detail, remedy="")
    password = Path(patient.settings.secrets_dir, JANITOR)
    access = Access(patient.dsn, JANITOR, str(password), "mana-doctor")
    janitor = JanitorStore(Database(access, max_connections=1))
    records, saved, ends_at = 0, 0, time.monotonic() + LOOK_AT_LOG_S
    try:
        async for table in janitor.tables_to_compact(COMPACTED_AFTER):
            for record in table.records:
                done = await janitor.compact(table, record, COMPACTED_AFTER, removes=False)
                records, saved = records + 1, saved + done.bytes
                if time.monotonic() > ends_at:
                    break
            if time.monotonic() > ends_at:
                break
    finally:
        await janitor.close()
    detail += f"; of {records:,} records looked at, {saved / 1e6:,.0f} MB at least could go"
    is_much = saved >= ADVISED_BYTES / 8
    remedy = "mana log compact" if is_much else ""
    return Finding("log size", ok=True, detail=detail, remedy=remedy, warning=is_much)


_STATES = {"D": "disabled", "R": "replica only"}


async def functions(patient: Patient) -> Finding:
    """Our functions are all there, as written, and run with their owner's rights only."""
    wanted = function_sources()
    found = {one.name: one for one in await patient.catalogue.functions()}
    faults = [f"{name} is missing" for name in wanted if name not in found]
    for one in found.values():
        if one.source != wanted.get(one.name, one.source):
            faults.append(f"{one.name} was altered")
        if one.is_definer and (one.owner not in GROUP_ROLES or not one.is_fixed):
            faults.append(f"{one.name} runs as {one.owner}, search path fixed: {one.is_fixed}")
    return _finding("functions", faults, TAMPERED)


async def router_policy(patient: Patient) -> Finding:
    """A push, tried and rolled back: it is fed, the router sees it, and no other app's row."""
    probe = await patient.catalogue.probe()
    if probe.fed != 1:
        return _finding("router policy", ["a push does not reach the feed"], _FEED_REMEDY)
    if probe.seen != 1:
        fault = "the router does not see the log's rows"
        return _finding("router policy", [fault], _ROUTER_REMEDY)
    fault = "the router sees rows of other apps"
    return _finding("router policy", [fault] if probe.too_much else [], _ROUTER_REMEDY)


_FEED_REMEDY = "see the checks of trigger and functions; GRANT INSERT ON mana_ai.change_feed"
_ROUTER_REMEDY = "restore policy mana_router_read on sync_changes as in state/store/schema.sql"


async def row_security(patient: Patient) -> Finding:
    """Every table with people's rows keeps them apart, for its owner too; so does the log."""
    tables = await patient.catalogue.tables()
    faults = [
        f"{table.name} is not forced"
        for table in tables
        if not (table.is_enabled and table.is_forced)
    ]
    missing = LOG_POLICIES - await patient.catalogue.log_policies()
    faults += [f"sync_changes lacks policy {name}" for name in sorted(missing)]
    remedy = "ALTER TABLE ... FORCE ROW LEVEL SECURITY; restore policies as in schema.sql"
    return _finding("row security", faults, remedy)


async def agent_privileges(patient: Patient) -> Finding:
    """What an agent's login can reach shows its owner's rows only, and writes nothing.

    By the rules of `state/rules/reach.py`, over all that is granted to it or to everybody.
    """
    catalogue = patient.catalogue
    faults = relation_faults(await catalogue.agent_relations(), GROUP_ROLES)
    faults += function_faults(await catalogue.agent_functions(), GROUP_ROLES)
    return _finding("agent privileges", [*faults, *await catalogue.agent_odds()], _AGENT_REMEDY)


_AGENT_REMEDY = (
    "REVOKE it from mana_agent and from PUBLIC, and DROP what nobody knows; policies and functions"
    " of ours as in state/store/schema.sql"
)


async def service_privileges(patient: Patient) -> Finding:
    """Each of our roles was granted what this release grants, no more and no less."""
    roles = [*GROUP_ROLES, *(login.name for login in LOGINS)]
    found, wanted = await patient.catalogue.privileges(roles), granted_by_schema()
    faults = [f"too much: {one}" for one in sorted(found - wanted)]
    faults += [f"missing: {one}" for one in sorted(wanted - found)]
    return _finding("service privileges", faults, "REVOKE or GRANT it as in state/store/schema.sql")


async def surroundings(patient: Patient) -> Finding:
    """What of the server agents may use though it is nothing of ours."""
    functions = await patient.catalogue.agent_functions()
    risks = [f"may call {one}" for one in foreign_extension_functions(functions)]
    risks += await patient.catalogue.risks()
    remedy = "if agents' logins may be stolen: REVOKE it from PUBLIC, or use a database of our own"
    found = _finding("surroundings", risks, remedy)
    return msgspec.structs.replace(found, ok=True, warning=not found.ok)


async def public_functions(patient: Patient) -> Finding:
    """Nobody calls our functions but who was named."""
    found = await patient.catalogue.functions()
    faults = [f"PUBLIC may call {one.name}" for one in found if one.is_public]
    remedy = "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA mana_ai FROM PUBLIC"
    return _finding("public functions", faults, remedy)


async def capability_secrets(patient: Patient) -> Finding:
    """Capabilities can be signed for each audience."""
    faults = [
        f"no signing secret for {audience}"
        for audience in ("db", "keys")
        if not await patient.service.signs(audience)
    ]
    return _finding("capability secrets", faults, MIGRATE)


async def values_in_logs(patient: Patient) -> Finding:
    """Capabilities and what agents send are bound to statements: no log of the server has them."""
    faults = await patient.catalogue.values_logged()
    remedy = (
        "ALTER SYSTEM SET log_parameter_max_length = 0;"
        " ALTER SYSTEM SET log_parameter_max_length_on_error = 0; SELECT pg_reload_conf()"
    )
    return _finding("values in logs", faults, remedy)


async def old_sessions(patient: Patient) -> Finding:
    """An agent's transaction that is open too long can be ended: one is opened, and ended."""
    password = Path(patient.settings.secrets_dir, AGENT)
    access = Access(patient.dsn, AGENT, str(password), "mana-doctor")
    async with open_transaction(access) as pid:
        is_ended = await patient.service.ends_session(pid)
    faults = [] if is_ended else ["mana_ai.end_sessions ends no session of an agent"]
    return _finding("old sessions", faults, "GRANT mana_agent TO mana_ender; mana migrate")


async def vault(patient: Patient) -> Finding:
    """Where vaults are kept: only the issuer's login gets at them, and only we read the keys."""
    settings = patient.settings
    others = [login.name for login in LOGINS if login.name != ISSUER]
    is_used = settings.kek_file is not None
    faults = await patient.catalogue.vault_faults(others, is_used=is_used)
    files = (settings.kek_file, settings.grant_signing_key_file)
    faults += [fault for file in files if file and (fault := _file_fault(Path(file))) is not None]
    return _finding("vault", faults, _VAULT_REMEDY)


_VAULT_REMEDY = (
    "as the owner of schema auth: GRANT USAGE ON SCHEMA auth TO mana_issuer; GRANT SELECT, INSERT,"
    " UPDATE ON auth.encryption_vaults TO mana_issuer; GRANT INSERT ON auth.encryption_vault_audit"
    " TO mana_issuer; force row security; chmod 600 the files"
)


async def shards(patient: Patient) -> Finding:
    """Every bucket is folded and scanned by a supervisor that is alive."""
    settings = patient.settings
    password = Path(settings.secrets_dir, GATEWAY)
    access = Access(patient.dsn, GATEWAY, str(password), "mana-doctor")
    database = Database(access, max_connections=1)
    try:
        found = Facts(shards=await FleetStore(database).shards(), supervisor={})
    finally:
        await database.close()
    faults = [str(problem) for problem in health(found, settings, "").content["problems"]]
    return _finding("shards", faults, "start it with mana up; see mana logs")


async def backlog(patient: Patient) -> Finding:
    """Feed and due missions are worked off."""
    waiting = await patient.service.waiting()
    faults: list[str] = []
    if waiting.fed >= LOOK_AT_MOST:
        faults.append(f"over {LOOK_AT_MOST - 1} rows wait in the feed")
    if waiting.late > LATE_MISSIONS:
        faults.append(f"{_counted(waiting.late)} missions are due for over two minutes")
    return _finding("backlog", faults, "see mana status and mana logs; add a shard or a node")


async def quarantine(patient: Patient) -> Finding:
    """Rows of the log that could not be used."""
    count = (await patient.service.waiting()).quarantined
    detail = f"{_counted(count)} rows are set aside" if count else "none"
    remedy = "see mana missions --problems" if count else ""
    return Finding("quarantine", ok=True, detail=detail, remedy=remedy, warning=bool(count))


async def other_runner(patient: Patient) -> Finding:
    """Nobody else plans missions of this log."""
    plans = await patient.catalogue.written_lately()
    count = await patient.service.unknown_plans(plans)
    if not count:
        return Finding("other runner", ok=True, detail="none in the last hour", remedy="")
    detail = f"another runner wrote {_counted(count)} plans in the last hour"
    remedy = "stop the original service: two runners plan every mission twice"
    return Finding("other runner", ok=True, detail=detail, remedy=remedy, warning=True)


def models_finding(told: dict[str, Any]) -> Finding:
    """What the running node says is wrong with its models."""
    wrong = [*told.get("warnings", []), *filter(None, [told.get("problem")])]
    providers: dict[str, dict[str, Any]] = told.get("providers", {})
    down = [name for name, each in providers.items() if each.get("status") != "healthy"]
    wrong += [f"the provider {name} is down" for name in down]
    detail, remedy = "; ".join(wrong) or "as they should be", "mana llm status" if wrong else ""
    return Finding("models", ok=True, detail=detail, remedy=remedy, warning=bool(wrong))


CHECKS: Sequence[Check] = (
    postgres_version,
    log_owner,
    roles,
    role_settings,
    password_files,
    files_of_ours,
    ray_joined,
    pending_migrations,
    capability_secrets,
    values_in_logs,
    old_sessions,
    vault,
    row_security,
    agent_privileges,
    service_privileges,
    surroundings,
    public_functions,
    functions,
    feed_trigger,
    device_trigger,
    router_policy,
    shards,
    backlog,
    quarantine,
    log_size,
    other_runner,
)


def _counted(count: int) -> str:
    return f"over {count - 1}" if count >= LOOK_AT_MOST else str(count)


def _file_fault(path: Path) -> str | None:
    if not path.is_file():
        return f"{path} is missing"
    return f"{path} can be read by others" if path.stat().st_mode & 0o077 else None


def _finding(check: str, faults: Iterable[str], remedy: str) -> Finding:
    found = list(faults)
    detail = "; ".join(found) or "as it should be"
    return Finding(check, not found, detail, remedy if found else "")
