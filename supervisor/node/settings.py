"""Every setting of a node, read once from the environment; a wrong one stops the start.

No secret is ever a setting: keys and passwords are named by the files that hold them.
"""

import difflib
import re
import typing
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import msgspec
from msgspec import Meta

from mana_actors.http.door import LOOPBACK_PROXIES, Limits
from mana_actors.http.names import Names, is_loopback, local_url
from mana_actors.keys.key_files import is_open_to_others
from mana_actors.keys.tls import TlsAddress, TlsFiles
from mana_actors.llm.router.aliases.registry import PerToken
from mana_actors.messages import AgentSettings
from state.private_files import socket_folder
from state.rules.exposure import Exposure
from state.runs.reasons import Language
from state.store.embedded import data_root
from state.zones import is_time_zone

Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]
AtLeastOne = Annotated[int, Meta(ge=1, le=1_000_000)]
Seconds = Annotated[float, Meta(ge=0, le=31_536_000)]
Millis = Annotated[int, Meta(ge=0, le=86_400_000)]
SomeMillis = Annotated[int, Meta(ge=10, le=86_400_000)]
Tokens = Annotated[int, Meta(ge=1, le=100_000_000)]
KeepDays = Annotated[float, Meta(ge=1, le=3650)]

MIN_LEASE_MS = 1000
BUCKETS = 256
KEYS_SCHEME = "tls://"
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
CA, SERVER, CLIENT = "tls-ca", "tls-server", "tls-client"
"""Names of certificate (`.pem`) and key (`.key`) in the folder of keys."""


class SettingsError(Exception):
    """Variables have values that cannot be; `str` is one line that names each of them."""

    def __init__(self, variable: str, problem: str, *others: str) -> None:
        super().__init__(variable, problem, *others)  # so it survives pickling between actors
        self.variable, self.problem, self.others = variable, problem, others

    def __str__(self) -> str:
        return "; ".join((f"{self.variable}: {self.problem}", *self.others))


AGENT = AgentSettings(
    dsn="",
    role="mana_agent",
    password_file="",
    model_url="",
    model_key_file=None,
    model="mana/reasoning",
)
"""The settings of agents where no variable says otherwise."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How this node runs; `VARIABLES` says which variable gives each field."""

    data_dir: str  # absolute
    secrets_dir: str  # absolute; files of mode 0600
    port: Port = 3067  # 0 takes a free one
    host: str = "127.0.0.1"
    operators_port: Port = 0  # of the operators' own door; 0 takes a free one
    operators_host: str = "127.0.0.1"
    public_urls: tuple[str, ...] = ()  # scheme://host[:port] that people use, beside loopback
    proxies: tuple[str, ...] = LOOPBACK_PROXIES  # who may say where a request came from
    connections_max: Annotated[int, Meta(ge=16, le=50_000)] = 1024
    connections_per_address: Annotated[int, Meta(ge=1, le=50_000)] = 256  # proxies' not counted
    database_url: str | None = None  # None: the embedded Postgres; never holds a password
    database_password_file: str | None = None
    service_key_file: str | None = None  # None: <secrets_dir>/service_key, made in embedded mode
    llm_aliases: str | None = None  # an alias file, or "shipped"; comes before llm_url
    llm_url: str | None = None  # without it and an alias file: the built-in rehearsal model
    llm_url_exposure: Exposure = "any"
    llm_try: bool = True  # one tiny call to llm_url at the start
    llm_price_prompt: PerToken | None = None  # of llm_url's model, per million tokens
    llm_price_completion: PerToken | None = None
    llm_price_cached: PerToken | None = None  # of what it had kept of a prompt; None: as any other
    llm_port: Port = 0  # of the model router, on loopback; 0 takes a free one
    llm_failure_threshold: AtLeastOne = 2
    llm_unhealthy_backoff_s: Seconds = 60
    otlp_endpoint: str | None = None  # base address of a collector; None: no traces
    llm_api_key_file: str | None = None
    rehearsal_latency_ms: Millis = 0
    tick_interval_ms: SomeMillis = 60_000
    tick_enabled: bool = True
    shard: str = "0"
    bucket_lo: int = 0  # buckets [lo, hi) of 256
    bucket_hi: int = BUCKETS
    agent_idle_s: Seconds | None = None  # None: as long as it costs less than a start, measured
    agent_keep_awake: bool = False
    agent_session_max_s: Annotated[float, Meta(ge=5, le=600)] = 15  # of a transaction of an agent
    agent_memory_mb: Annotated[int, Meta(ge=64)] | None = None  # None: half of the RAM
    agents_awake_max: AtLeastOne | None = None  # None: 32 per core
    agent_slots: Count = 48  # agents of a node whose connection stays open between runs
    warm_pool: Count = 2
    fork_server: bool = True  # False: Ray starts every worker itself
    prepare_ahead_s: Seconds = 120
    due_spread_s: Seconds = 0
    runs_max: AtLeastOne = 64
    runs_per_user: AtLeastOne = 8
    ray_address: str | None = None  # None: a Ray of our own
    disk_free_mb: Count = (
        256  # below this on a disk of the node nothing begins; 0: whatever is free
    )
    disk_free_inodes: Count = 2000
    shm_free_mb: Count = 16  # the same of shared memory, which is small in containers
    fold_poll_ms: Annotated[int, Meta(ge=1, le=60_000)] = 50
    keep_usage_h: Annotated[float, Meta(ge=25, le=8760)] = 48  # the budget's window is 24
    keep_decisions_days: KeepDays = 90
    keep_runs_days: KeepDays = 90
    keep_requests_days: KeepDays = 30
    keep_audit_days: KeepDays = 90
    sync_rows_per_minute: Count = 60_000  # of one person's devices; 0, here and below: any number
    sync_mb_per_minute: Count = 120
    sync_records_max: Count = 1_000_000  # of one person in the log
    sync_mb_max: Count = 4096
    metrics_open: bool = False  # True: /metrics asks for no key
    auth_url: str | None = None  # None: /api/v1/me is off; whose JWKS tokens are checked by
    jwt_issuers: tuple[str, ...] = ()  # accepted beside auth_url
    jwt_audience: str = "mana"
    sync_ahead_s: Annotated[float, Meta(ge=1, le=86_400)] = 300  # a device's stamps of our clock
    credits_url: str | None = None  # who says whether sync is paid for; None: it is
    billing_exempt_apps: tuple[str, ...] = ()  # apps whose sync is free
    memberships_url: str | None = None  # who names spaces beside tokens; None: nobody
    cors_origins: tuple[str, ...] = ()  # exact; none: no page may read /api/v1/me
    kek_file: str | None = None  # None: no vaults
    ai_public_key_file: str | None = None  # None: the newest in keys_dir
    grant_signing_key_file: str | None = None  # None: the newest in keys_dir
    grant_issuer: bool = True  # False: the auth service mints grants
    keys_dir: str | None = None  # None: <secrets_dir>/keys
    accept_v1_grants: bool = False  # True: also the original's grants, which nobody signed
    keys_listen: str | None = None  # HOST:PORT; None: the key holder answers on this machine only
    keys_address: str | None = None  # tls://HOST:PORT that agents ask; None: this machine's socket
    keys_tls_cert_file: str | None = None  # of the key holder; None: in keys_dir
    keys_tls_key_file: str | None = None
    keys_tls_ca_file: str | None = None  # who is trusted by either side
    keys_client_cert_file: str | None = None  # of agents, at this path on every machine
    keys_client_key_file: str | None = None
    agent: AgentSettings = AGENT  # of every agent; what a node finds at its start is empty here

    @property
    def is_embedded(self) -> bool:
        """Whether the database is the Postgres we start ourselves."""
        return self.database_url is None

    @property
    def operators_url(self) -> str:
        """Where the operators' door is reached on this machine; "" before it has a port."""
        if not self.operators_port:
            return ""
        return local_url(self.operators_host, self.operators_port)

    @property
    def limits(self) -> Limits:
        """What the door for people allows."""
        return Limits(
            most=self.connections_max,
            per_address=self.connections_per_address,
            proxies=self.proxies,
        )

    @property
    def names(self) -> Names:
        """What it is asked by."""
        return Names(public=self.public_urls, any_address=not is_loopback(self.host))

    @property
    def operators_names(self) -> Names:
        """What the operators' door is asked by."""
        return Names(public=self.public_urls, any_address=not is_loopback(self.operators_host))

    @property
    def service_key_path(self) -> Path:
        """The file that holds the service key."""
        return Path(self.service_key_file or Path(self.secrets_dir, "service_key"))

    @property
    def keys_path(self) -> Path:
        """The folder with the keys of grants."""
        return Path(self.keys_dir or Path(self.secrets_dir, "keys"))

    @property
    def key_socket(self) -> Path:
        """Where the key holder answers."""
        return socket_folder(Path(self.data_dir), "keyholder", len("/socket")) / "socket"

    @property
    def key_server_files(self) -> TlsFiles:
        """What the key holder shows other machines."""
        return self._tls_files(SERVER, self.keys_tls_cert_file, self.keys_tls_key_file)

    @property
    def key_client_files(self) -> TlsFiles:
        """What agents show a key holder on another machine."""
        return self._tls_files(CLIENT, self.keys_client_cert_file, self.keys_client_key_file)

    def _tls_files(self, name: str, cert: str | None, key: str | None) -> TlsFiles:
        folder = self.keys_path
        return TlsFiles(
            cert or str(folder / f"{name}.pem"),
            key or str(folder / f"{name}.key"),
            self.keys_tls_ca_file or str(folder / f"{CA}.pem"),
        )

    @property
    def key_address(self) -> TlsAddress | None:
        """Whom agents ask for keys; None: whoever answers on the socket of their machine."""
        if self.keys_address is None:
            return None
        host, port = host_and_port(self.keys_address.removeprefix(KEYS_SCHEME))
        return TlsAddress(host, port, self.key_client_files)

    @property
    def runs_key_holder(self) -> bool:
        """False where agents ask another machine's."""
        return self.keys_address is None or self.keys_listen is not None

    def to_wire(self) -> bytes:
        """JSON, for other processes."""
        return msgspec.json.encode(self)

    @classmethod
    def from_wire(cls, raw: bytes) -> Self:
        """The settings another process wrote with `to_wire`."""
        return msgspec.json.decode(raw, type=cls)


VARIABLES = {
    "port": "PORT",
    "host": "MANA_HOST",
    "operators_port": "MANA_OPERATORS_PORT",
    "operators_host": "MANA_OPERATORS_HOST",
    "connections_max": "MANA_CONNECTIONS_MAX",
    "connections_per_address": "MANA_CONNECTIONS_PER_ADDRESS",
    "data_dir": "MANA_DATA_DIR",
    "secrets_dir": "MANA_SECRETS_DIR",
    "database_url": "SYNC_DATABASE_URL",
    "database_password_file": "MANA_DATABASE_PASSWORD_FILE",
    "service_key_file": "MANA_SERVICE_KEY_FILE",
    "llm_aliases": "MANA_LLM_ALIASES",
    "llm_url": "MANA_LLM_URL",
    "llm_url_exposure": "MANA_LLM_URL_EXPOSURE",
    "llm_try": "MANA_LLM_TRY",
    "llm_price_prompt": "MANA_LLM_PRICE_PROMPT",
    "llm_price_completion": "MANA_LLM_PRICE_COMPLETION",
    "llm_price_cached": "MANA_LLM_PRICE_CACHED",
    "llm_port": "MANA_LLM_PORT",
    "llm_failure_threshold": "MANA_LLM_FAILURE_THRESHOLD",
    "llm_unhealthy_backoff_s": "MANA_LLM_UNHEALTHY_BACKOFF_S",
    "otlp_endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT",
    "llm_api_key_file": "MANA_LLM_API_KEY_FILE",
    "rehearsal_latency_ms": "MANA_REHEARSAL_LATENCY_MS",
    "tick_interval_ms": "TICK_INTERVAL_MS",
    "shard": "MANA_SHARD",
    "agent_idle_s": "MANA_AGENT_IDLE_S",
    "agent_keep_awake": "MANA_AGENT_KEEP_AWAKE",
    "agent_session_max_s": "MANA_AGENT_SESSION_MAX_S",
    "agent_memory_mb": "MANA_AGENT_MEMORY_MB",
    "agents_awake_max": "MANA_AGENTS_AWAKE_MAX",
    "agent_slots": "MANA_AGENT_SLOTS",
    "warm_pool": "MANA_WARM_POOL",
    "fork_server": "MANA_FORK_SERVER",
    "prepare_ahead_s": "MANA_PREPARE_AHEAD_S",
    "due_spread_s": "MANA_DUE_SPREAD_S",
    "runs_max": "MANA_RUNS_MAX",
    "runs_per_user": "MANA_RUNS_PER_USER",
    "ray_address": "MANA_RAY_ADDRESS",
    "disk_free_mb": "MANA_DISK_FREE_MB",
    "disk_free_inodes": "MANA_DISK_FREE_INODES",
    "shm_free_mb": "MANA_SHM_FREE_MB",
    "fold_poll_ms": "MANA_FOLD_POLL_MS",
    "keep_usage_h": "MANA_KEEP_USAGE_H",
    "keep_decisions_days": "MANA_KEEP_DECISIONS_DAYS",
    "keep_runs_days": "MANA_KEEP_RUNS_DAYS",
    "keep_requests_days": "MANA_KEEP_REQUESTS_DAYS",
    "keep_audit_days": "MANA_KEEP_AUDIT_DAYS",
    "sync_rows_per_minute": "MANA_SYNC_ROWS_PER_MINUTE",
    "sync_mb_per_minute": "MANA_SYNC_MB_PER_MINUTE",
    "sync_records_max": "MANA_SYNC_RECORDS_MAX",
    "sync_mb_max": "MANA_SYNC_MB_MAX",
    "metrics_open": "MANA_METRICS_OPEN",
    "auth_url": "MANA_AUTH_URL",
    "sync_ahead_s": "MANA_SYNC_AHEAD_S",
    "credits_url": "MANA_CREDITS_URL",
    "memberships_url": "MANA_MEMBERSHIPS_URL",
    "jwt_audience": "JWT_AUDIENCE",
    "kek_file": "MANA_AUTH_KEK_FILE",
    "ai_public_key_file": "MANA_AI_PUBLIC_KEY_FILE",
    "grant_signing_key_file": "MANA_GRANT_SIGNING_KEY_FILE",
    "grant_issuer": "MANA_GRANT_ISSUER",
    "keys_dir": "MANA_KEYS_DIR",
    "accept_v1_grants": "MANA_ACCEPT_V1_GRANTS",
    "keys_listen": "MANA_KEYS_LISTEN",
    "keys_address": "MANA_KEYS_ADDRESS",
    "keys_tls_cert_file": "MANA_KEYS_TLS_CERT_FILE",
    "keys_tls_key_file": "MANA_KEYS_TLS_KEY_FILE",
    "keys_tls_ca_file": "MANA_KEYS_TLS_CA_FILE",
    "keys_client_cert_file": "MANA_KEYS_CLIENT_CERT_FILE",
    "keys_client_key_file": "MANA_KEYS_CLIENT_KEY_FILE",
}
"""Field to variable."""

AGENT_VARIABLES: dict[str, tuple[str, Any]] = {
    "exposure": ("MANA_LLM_EXPOSURE", Exposure),
    "language": ("MANA_LANGUAGE", Language),
    "model": ("MANA_LLM_MODEL", str),
    "lease_ms": ("MANA_LEASE_MS", Annotated[int, Meta(ge=MIN_LEASE_MS, le=3_600_000)]),
    "time_zone": ("MANA_TIME_ZONE", str),
    "call_deadline_s": ("MANA_CALL_DEADLINE_S", Annotated[float, Meta(gt=0, le=3600)]),
    "max_output_tokens": ("MANA_MAX_OUTPUT_TOKENS", Tokens),
    "bytes_per_token": ("MANA_BYTES_PER_TOKEN", Annotated[float, Meta(ge=1, le=16)]),
    "max_rounds": ("MANA_MAX_ROUNDS", Annotated[int, Meta(ge=1, le=100)]),
    "run_attempts": ("MANA_RUN_ATTEMPTS", Annotated[int, Meta(ge=1, le=100)]),
    "backoff_min_s": ("MANA_BACKOFF_MIN_S", Seconds),
    "backoff_max_s": ("MANA_BACKOFF_MAX_S", Seconds),
    "compact_max_ctx": ("MANA_AI_COMPACT_MAX_CTX", Annotated[int, Meta(ge=0)]),
    "tools_offered": ("MANA_TOOLS_OFFERED", Literal["fitting", "all"]),
    "devices": ("MANA_DEVICES", bool),
    "tools_file": ("MANA_TOOLS_FILE", str),
    "tool_deadline_s": ("MANA_TOOL_DEADLINE_S", Annotated[float, Meta(gt=0, le=600)]),
    "tool_memory_mb": ("MANA_TOOL_MEMORY_MB", Annotated[int, Meta(ge=64, le=65_536)]),
    "crash_at": ("MANA_CRASH_AT", str),
}
"""Field of an agent's settings to variable and what it may hold; defaults are the fields' own."""


FILES = (
    "database_password_file",
    "service_key_file",
    "llm_api_key_file",
    "kek_file",
    "ai_public_key_file",
    "grant_signing_key_file",
)
"""Fields that name files which must be there."""

SECRET_VARIABLES = {
    "MANA_SERVICE_KEY": "MANA_SERVICE_KEY_FILE",
    "MANA_LLM_API_KEY": "MANA_LLM_API_KEY_FILE",
    "MANA_AUTH_KEK": "MANA_AUTH_KEK_FILE",
}
"""Variables that would hold a secret, and those that name its file instead."""


LISTS = {
    "jwt_issuers": "JWT_ISSUER",
    "cors_origins": "CORS_ORIGINS",
    "public_urls": "MANA_PUBLIC_URL",
    "billing_exempt_apps": "BILLING_EXEMPT_APPS",
    "proxies": "MANA_PROXIES",
}
"""Fields whose variables hold several values, separated by commas."""

OTHER_VARIABLES = (
    *("MANA_BUCKETS", "POLICY_MODE", "TICK_ENABLED", *LISTS.values()),
    *("MANA_URL", "MANA_TOKEN_FILE"),  # of commands
    *("MANA_FORK_DIR", "MANA_LOG_DIR", "MANA_NODE_MARK"),  # what a node tells what it starts
)
"""Variables that neither table has: they have readers of their own."""

NOT_THERE_YET = {
    "MANA_API_URL": "research",
    "MANA_RESEARCH_URL": "deep research",
    "MANA_AI_DEEP_RESEARCH_ENABLED": "deep research",
}
"""Variables of deployments that had more than we have, and what they are about."""

_ALIKE = 0.8  # of 1: closer is a slip of the hand

TESTS_OWN = ("MANA_TEST_", "MANA_FUZZ_")


def read_settings(env: Mapping[str, str], *, serves: bool = True) -> Settings:
    """The settings an environment gives; raises SettingsError for all that are wrong at once.

    `serves` is false for commands that only look at the database and need no service key.
    """
    wrong: dict[str, str] = {}
    for variable, instead in SECRET_VARIABLES.items():
        if variable in env:
            wrong[variable] = f"put the secret into a file and name it in {instead}"
    types = typing.get_type_hints(Settings, include_extras=True)
    given = _given(env, {f: (v, types[f]) for f, v in VARIABLES.items()}, wrong)
    agent = _given(env, AGENT_VARIABLES, wrong)
    data_dir = Path(given.get("data_dir") or data_root()).absolute()
    given["data_dir"] = str(data_dir)
    given["secrets_dir"] = str(Path(given.get("secrets_dir") or data_dir / "secrets").absolute())
    given["tick_enabled"] = env.get("TICK_ENABLED") != "false"
    mode = env.get("POLICY_MODE", AGENT.policy_mode).lower()
    if mode not in ("off", "log-only", "enforce"):
        wrong["POLICY_MODE"] = f"expected off, log-only or enforce, got {mode[:60]!r}"
        mode = AGENT.policy_mode
    agent.setdefault("devices", "auth_url" in given)  # an app of its own brings its own clients
    given["agent"] = msgspec.structs.replace(AGENT, **agent, policy_mode=mode)
    try:
        given["bucket_lo"], given["bucket_hi"] = _buckets(env.get("MANA_BUCKETS", "0-255"))
    except SettingsError as exc:
        wrong[exc.variable] = exc.problem
    for field, variable in LISTS.items():
        try:
            if variable in env:
                given[field] = _listed(variable, env)
        except SettingsError as exc:
            wrong[exc.variable] = exc.problem
    settings = Settings(**given)
    for exc in _contradictions(settings):
        wrong.setdefault(exc.variable, exc.problem)  # what cannot be read is not compared
    if serves and not wrong:
        for exc in _missing(settings):
            wrong.setdefault(exc.variable, exc.problem)
    if wrong:
        (variable, problem), *others = wrong.items()
        raise SettingsError(variable, problem, *(f"{name}: {what}" for name, what in others))
    return settings


def unused_variables(env: Mapping[str, str]) -> list[str]:
    """In words, each variable of an environment that looks like ours and is not used."""
    known = {*VARIABLES.values(), *(name for name, _ in AGENT_VARIABLES.values())}
    known |= {*SECRET_VARIABLES, *SECRET_VARIABLES.values(), *OTHER_VARIABLES}
    told: list[str] = []
    for name in sorted(env):
        if name in NOT_THERE_YET:
            told.append(f"{name} is not used: {NOT_THERE_YET[name]} is not there yet")
        elif name.startswith("MANA_") and name not in known and not name.startswith(TESTS_OWN):
            near = difflib.get_close_matches(name, known, 1, _ALIKE)
            hint = f"; did you mean {near[0]}?" if near else ""
            told.append(f"{name[:80]} is not used: no setting has this name{hint}")
    return told


def _given(
    env: Mapping[str, str], variables: Mapping[str, tuple[str, Any]], wrong: dict[str, str]
) -> dict[str, Any]:
    """The values of fields that an environment names; those that cannot be go into `wrong`."""
    found: dict[str, Any] = {}
    for field, (variable, kind) in variables.items():
        if variable in env:
            try:
                found[field] = _converted(variable, env[variable], kind)
            except SettingsError as exc:
                wrong[exc.variable] = exc.problem
    return found


def without_password(url: str) -> tuple[str, str | None]:
    """A database address without its password, and the password if it held one."""
    parts = urlsplit(url)
    if parts.password is None:
        return url, None
    user, _, _ = parts.netloc.rpartition("@")[0].partition(":")
    netloc = f"{user}@{parts.netloc.rpartition('@')[2]}"
    return urlunsplit(parts._replace(netloc=netloc)), unquote(parts.password)


def _converted(variable: str, text: str, kind: object) -> object:
    if not text.strip():
        raise SettingsError(variable, "is empty; give it a value or leave it out")
    if "\0" in text:
        raise SettingsError(variable, "holds a NUL character")
    if any("\ud800" <= c <= "\udfff" for c in text):  # bytes that were no UTF-8
        raise SettingsError(variable, "is not UTF-8")
    try:
        value = msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as exc:
        expected = str(exc).partition(",")[0].replace("`", "").replace("Expected", "expected")
        if typing.get_origin(kind) is Literal:
            expected = f"expected {', '.join(typing.get_args(kind))}"
        raise SettingsError(variable, f"{expected}, got {text[:60]!r}") from exc
    if value is None:  # the word "null"
        raise SettingsError(variable, f"expected a value, got {text[:60]!r}")
    return value


def _listed(variable: str, env: Mapping[str, str]) -> tuple[str, ...]:
    """The parts of a comma-separated list; empty where the variable is not set."""
    if variable not in env:
        return ()
    parts = tuple(part.strip() for part in env[variable].split(","))
    if not all(parts) or "\0" in env[variable]:
        raise SettingsError(variable, "has an empty part; give each a value or leave it out")
    return parts


def _buckets(text: str) -> tuple[int, int]:
    """What "0-127" means: (0, 128)."""
    first, dash, last = text.partition("-")
    if not (dash and first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
        raise SettingsError("MANA_BUCKETS", f"expected FIRST-LAST, as 0-255, got {text[:60]!r}")
    lo, hi = int(first[:6]), int(last[:6]) + 1
    if not lo < hi <= BUCKETS:
        raise SettingsError(
            "MANA_BUCKETS", f"expected numbers from 0 to 255 in order, got {text!r}"
        )
    return lo, hi


def _contradictions(settings: Settings) -> Iterator[SettingsError]:
    """What one field alone cannot say."""
    agent = settings.agent
    for variable, url, schemes in (
        ("SYNC_DATABASE_URL", settings.database_url, ("postgresql", "postgres")),
        ("MANA_LLM_URL", settings.llm_url, ("http", "https")),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", settings.otlp_endpoint, ("http", "https")),
        ("MANA_AUTH_URL", settings.auth_url, ("http", "https")),
        ("MANA_CREDITS_URL", settings.credits_url, ("http", "https")),
        ("MANA_MEMBERSHIPS_URL", settings.memberships_url, ("http", "https")),
    ):
        if url is not None and _parts(url, schemes) is None:
            # Without its text: it may hold a password.
            expected = f"expected an address that begins with {schemes[0]}://"
            yield SettingsError(variable, expected)
    database = settings.database_url and _parts(settings.database_url, ("postgresql", "postgres"))
    if database and (database.password is not None or "password=" in database.query):
        problem = "holds a password; put that into a file named by MANA_DATABASE_PASSWORD_FILE"
        yield SettingsError("SYNC_DATABASE_URL", problem)
    if settings.llm_price_completion is None and settings.llm_price_prompt is not None:
        yield SettingsError("MANA_LLM_PRICE_COMPLETION", "is missing beside MANA_LLM_PRICE_PROMPT")
    if settings.llm_price_prompt is None and (
        settings.llm_price_completion is not None or settings.llm_price_cached is not None
    ):
        yield SettingsError("MANA_LLM_PRICE_PROMPT", "is missing beside the other prices")
    if settings.llm_aliases not in (None, "shipped") and not Path(settings.llm_aliases).is_file():
        yield SettingsError("MANA_LLM_ALIASES", f"there is no file {settings.llm_aliases}")
    if agent.backoff_max_s < agent.backoff_min_s:
        yield SettingsError("MANA_BACKOFF_MAX_S", "is less than MANA_BACKOFF_MIN_S")
    if agent.crash_at is not None and not all(agent.crash_at.partition(":")):
        yield SettingsError("MANA_CRASH_AT", f"expected POINT:FILE, got {agent.crash_at!r}")
    if len(settings.shard) > 64 or not settings.shard.replace("-", "").isalnum():
        yield SettingsError("MANA_SHARD", "expected up to 64 letters, digits or dashes")
    if not is_time_zone(agent.time_zone):
        yield SettingsError("MANA_TIME_ZONE", f"{agent.time_zone[:60]!r} is not an IANA zone")
    files = {VARIABLES[field]: getattr(settings, field) for field in FILES}
    for variable, path in (files | {"MANA_TOOLS_FILE": agent.tools_file}).items():
        if path is not None and not Path(path).is_file():
            yield SettingsError(variable, f"there is no file {path}")
    auth = settings.auth_url and _parts(settings.auth_url, ("http", "https"))
    if auth and ("@" in auth.netloc or auth.query):
        yield SettingsError("MANA_AUTH_URL", "holds more than an address")
    if settings.auth_url is None and (settings.kek_file or settings.grant_signing_key_file):
        problem = "is not set: vault and grants need to know who asks"
        yield SettingsError("MANA_AUTH_URL", problem)
    yield from _unusable_addresses(settings)
    for variable, place, scheme in (
        ("MANA_KEYS_LISTEN", settings.keys_listen, ""),
        ("MANA_KEYS_ADDRESS", settings.keys_address, KEYS_SCHEME),
    ):
        if place is not None and not _is_place(place, scheme):
            yield SettingsError(variable, f"expected {scheme}HOST:PORT, got {place[:60]!r}")


def _missing(settings: Settings) -> Iterator[SettingsError]:
    """Files that a process which serves needs."""
    if not settings.is_embedded and not settings.service_key_path.is_file():
        problem = "name a file with the service key; only the embedded mode makes one"
        yield SettingsError("MANA_SERVICE_KEY_FILE", problem)
    for variable, is_meant, files in (
        ("MANA_KEYS_LISTEN", settings.keys_listen is not None, settings.key_server_files),
        ("MANA_KEYS_ADDRESS", settings.keys_address is not None, settings.key_client_files),
    ):
        named = (files.cert_file, files.key_file, files.ca_file)
        missing = [path for path in named if is_meant and not Path(path).is_file()]
        if missing:
            problem = f"there is no file {missing[0]}: mana keys new tls --host NAME"
            yield SettingsError(variable, problem)
        elif is_meant and is_open_to_others(files.key_file):
            problem = f"{files.key_file} can be read by others: chmod 600"
            yield SettingsError(variable, problem)


def _is_place(text: str, scheme: str) -> bool:
    try:
        host_and_port(text.removeprefix(scheme))
    except ValueError:
        return False
    return text.startswith(scheme)


def _unusable_addresses(settings: Settings) -> Iterator[SettingsError]:
    """Which of the listed origins and networks are none."""
    for origin in settings.cors_origins:
        if not is_origin(origin):
            problem = f"expected scheme://host[:port] in lower case, got {origin[:60]!r}"
            yield SettingsError("CORS_ORIGINS", problem)
    for url in settings.public_urls:
        if not is_origin(url):
            problem = f"expected scheme://host[:port] in lower case, got {url[:60]!r}"
            yield SettingsError("MANA_PUBLIC_URL", problem)
    for proxy in settings.proxies:
        if not is_network(proxy):
            problem = f"expected addresses or networks, as 10.0.0.0/8, got {proxy[:60]!r}"
            yield SettingsError("MANA_PROXIES", problem)


def host_and_port(text: str) -> tuple[str, int]:
    """What `HOST:PORT` or `[IPv6]:PORT` means; raises ValueError."""
    host, _, port = text.rpartition(":")
    name = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    is_port = port.isascii() and port.isdigit() and 0 < int(port[:6]) <= 65535
    if not is_port or not is_host(name) or (":" in name) == (name == host):
        raise ValueError(text)
    return name, int(port)


def is_host(text: str) -> bool:
    """Whether this is a host's name or address, without brackets or port."""
    try:
        ip_address(text)
    except ValueError:
        return _HOST.fullmatch(text) is not None
    return True


def is_network(text: str) -> bool:
    """Whether this is an IP address, or a network of them."""
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def is_origin(text: str) -> bool:
    """Whether this is `scheme://host[:port]` as browsers send it, and nothing more."""
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises for a port that is none
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not parts.hostname or text != text.lower():
        return False
    return text == f"{parts.scheme}://{parts.netloc}" and not set("*@ ") & set(text)


def _parts(url: str, schemes: tuple[str, ...]) -> SplitResult | None:
    """The parts of an address with one of these schemes; None for what is none."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for a port that is none
    except ValueError:
        return None
    usable = parts.scheme in schemes and bool(parts.hostname or "host=" in parts.query)
    return parts if usable else None
