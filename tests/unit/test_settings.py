import pickle
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from supervisor.custody.certificates import make_certificates
from supervisor.node.credentials import read_service_key, secrets_into_files
from supervisor.node.settings import (
    NOT_THERE_YET,
    Settings,
    SettingsError,
    read_settings,
    unused_variables,
)

ROOT = Path(__file__).parents[2]


def test_defaults_are_those_of_the_original_deployment():
    settings = read_settings({})
    assert (settings.port, settings.host) == (3067, "127.0.0.1")
    assert (settings.tick_interval_ms, settings.tick_enabled) == (60_000, True)
    assert (settings.agent.time_zone, settings.agent.policy_mode) == ("Europe/Berlin", "enforce")
    assert (settings.bucket_lo, settings.bucket_hi) == (0, 256)
    assert settings.is_embedded
    assert settings.llm_url is None


def test_settings_cross_to_other_processes():
    settings = read_settings({"PORT": "4000", "MANA_BUCKETS": "0-127", "POLICY_MODE": "Log-Only"})
    assert Settings.from_wire(settings.to_wire()) == settings
    assert (settings.port, settings.bucket_hi, settings.agent.policy_mode) == (
        4000,
        128,
        "log-only",
    )


@pytest.mark.parametrize(
    ("text", "enabled"),
    [("false", False), ("False", True), ("0", True), ("", True), ("true", True)],
)
def test_the_tick_is_off_only_if_exactly_false(text: str, enabled: bool):
    assert read_settings({"TICK_ENABLED": text}).tick_enabled is enabled


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PORT", "abc"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "10.5"),
        ("PORT", "null"),
        ("MANA_HOST", " "),
        ("MANA_DATA_DIR", "a\0b"),
        ("SYNC_DATABASE_URL", ""),
        ("SYNC_DATABASE_URL", "mysql://host/db"),
        ("SYNC_DATABASE_URL", "postgresql://"),
        ("SYNC_DATABASE_URL", "postgresql://u@host:port/db"),
        ("SYNC_DATABASE_URL", "postgresql://[::1/db"),
        ("MANA_LLM_URL", ""),
        ("MANA_LLM_URL", "localhost:3020"),
        ("MANA_LLM_API_KEY_FILE", "/nowhere/key"),
        ("MANA_LLM_ALIASES", "/nowhere/aliases.yaml"),
        ("MANA_LLM_EXPOSURE", "everywhere"),
        ("MANA_LLM_URL_EXPOSURE", "EU"),
        ("MANA_LLM_PORT", "65536"),
        ("MANA_LLM_FAILURE_THRESHOLD", "0"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("MANA_LLM_API_KEY_FILE", ""),
        ("MANA_SERVICE_KEY_FILE", "/nowhere/key"),
        ("TICK_INTERVAL_MS", "0"),
        ("TICK_INTERVAL_MS", "1e9"),
        ("MANA_BUCKETS", "0"),
        ("MANA_BUCKETS", "5-4"),
        ("MANA_BUCKETS", "0-256"),
        ("MANA_BUCKETS", "٣-9"),
        ("MANA_SHARD", "a/b"),
        ("MANA_TIME_ZONE", "Mars/Olympus"),
        ("MANA_TIME_ZONE", "../../etc/passwd"),
        ("MANA_TIME_ZONE", "Europe"),
        ("MANA_CALL_DEADLINE_S", "nan"),
        ("MANA_AGENT_IDLE_S", "inf"),
        ("MANA_AGENT_KEEP_AWAKE", "maybe"),
        ("MANA_LEASE_MS", "10"),
        ("MANA_RUNS_MAX", "0"),
        ("MANA_MAX_ROUNDS", "0"),
        ("MANA_BYTES_PER_TOKEN", "0.5"),
        ("POLICY_MODE", "strict"),
        ("MANA_CRASH_AT", "no-file"),
        ("MANA_AUTH_URL", "auth.example"),
        ("MANA_AUTH_URL", ""),
        ("MANA_AUTH_URL", "https://user:secret@auth.example"),
        ("JWT_ISSUER", "https://a,,https://b"),
        ("JWT_AUDIENCE", ""),
        ("CORS_ORIGINS", "*"),
        ("MANA_PUBLIC_URL", "mana.example.org"),
        ("MANA_PUBLIC_URL", "https://mana.example.org/path"),
        ("MANA_PUBLIC_URL", "https://a.example,,https://b.example"),
        ("MANA_PROXIES", "proxy.internal"),
        ("MANA_PROXIES", "10.0.0.0/33"),
        ("MANA_CONNECTIONS_MAX", "1"),
        ("MANA_CONNECTIONS_PER_ADDRESS", "0"),
        ("MANA_OPERATORS_PORT", "65536"),
        ("CORS_ORIGINS", "https://*.mana.how"),
        ("CORS_ORIGINS", "https://mana.how/"),
        ("CORS_ORIGINS", "https://Mana.how"),
        ("CORS_ORIGINS", "https://me@mana.how"),
        ("CORS_ORIGINS", "null"),
        ("MANA_AUTH_KEK", "a-secret"),
        ("MANA_AUTH_KEK_FILE", "/nowhere/kek"),
        ("MANA_AI_PUBLIC_KEY_FILE", "/nowhere/key"),
        ("MANA_GRANT_SIGNING_KEY_FILE", "/nowhere/key"),
        ("MANA_GRANT_ISSUER", "maybe"),
        ("MANA_KEYS_LISTEN", "7443"),
        ("MANA_KEYS_LISTEN", ":7443"),
        ("MANA_KEYS_LISTEN", "::1:7443"),
        ("MANA_KEYS_LISTEN", "a b:7443"),
        ("MANA_KEYS_LISTEN", "0.0.0.0:65536"),
        ("MANA_KEYS_LISTEN", "0.0.0.0:٣"),
        ("MANA_KEYS_ADDRESS", "keys.internal:7443"),
        ("MANA_KEYS_ADDRESS", "https://keys.internal:7443"),
        ("MANA_KEYS_ADDRESS", "tls://keys.internal"),
        ("MANA_KEYS_ADDRESS", "tls://keys.internal:0"),
        ("MANA_KEYS_ADDRESS", "tls://me@keys.internal:7443"),
        ("MANA_KEYS_ADDRESS", "tls://keys.internal:7443/x"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_its_variable(variable: str, text: str):
    with pytest.raises(SettingsError, match=f"^{variable}: ") as caught:
        read_settings({variable: text})
    assert "\n" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301


def test_all_wrong_settings_are_named_at_once():
    wrong = {
        "PORT": "abc",
        "MANA_LEASE_MS": "10",
        "POLICY_MODE": "strict",
        "MANA_BUCKETS": "5-4",
        "JWT_ISSUER": "a,,b",
        "MANA_LLM_URL": "localhost:3020",
        "MANA_AUTH_KEK_FILE": "/nowhere/kek",
        "MANA_SERVICE_KEY": "a-secret",
    }
    with pytest.raises(SettingsError) as caught:
        read_settings(wrong | {"MANA_TIME_ZONE": "Factory"})
    said = str(caught.value)
    for variable in (*wrong, "MANA_TIME_ZONE"):
        assert said.count(f"{variable}: ") == 1
    assert "a-secret" not in said
    assert "\n" not in said
    assert str(pickle.loads(pickle.dumps(caught.value))) == said  # noqa: S301


def test_a_value_that_cannot_be_read_is_not_compared_with_others():
    with pytest.raises(SettingsError) as caught:
        read_settings({"MANA_LLM_PRICE_PROMPT": "x", "MANA_LLM_PRICE_COMPLETION": "1"})
    assert str(caught.value).count("MANA_LLM_PRICE_PROMPT") == 1
    assert "expected" in str(caught.value)


def test_a_path_that_is_no_text_is_refused():
    with pytest.raises(SettingsError, match=r"^MANA_DATA_DIR: is not UTF-8"):
        read_settings({"MANA_DATA_DIR": "/tmp/\udcff"})


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("MANA_LLM_ULR", "did you mean MANA_LLM_URL?"),
        ("MANA_RUN_MAX", "did you mean MANA_RUNS_MAX?"),
        ("MANA_RESEARCH_URL", "deep research is not there yet"),
        ("MANA_AI_DEEP_RESEARCH_ENABLED", "deep research is not there yet"),
        ("MANA_API_URL", "research is not there yet"),
        ("MANA_QQQ", "no setting has this name"),
    ],
)
def test_a_variable_that_nobody_reads_is_told(variable: str, said: str):
    (line,) = unused_variables({variable: "secret", "PATH": "/bin", "MANA_LLM_URL": "http://x"})
    assert line.startswith(f"{variable} is not used: ")
    assert line.endswith(said)
    assert "secret" not in line


def test_every_variable_that_our_code_names_is_known():
    packages = ("state", "mana_actors", "supervisor")
    sources = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    named = {
        name
        for path in sources
        for name in re.findall(r"\bMANA_[A-Z0-9_]*[A-Z0-9]\b", path.read_text("utf-8"))
    }
    not_used = NOT_THERE_YET | {"MANA_TEST": "", "MANA_FUZZ": ""}
    assert unused_variables(dict.fromkeys(named - set(not_used), "")) == []


def test_a_back_off_that_shrinks_is_refused():
    with pytest.raises(SettingsError, match="MANA_BACKOFF_MAX_S"):
        read_settings({"MANA_BACKOFF_MIN_S": "10", "MANA_BACKOFF_MAX_S": "5"})


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("tls://keys.internal:7443", "keys.internal", 7443), ("tls://[::1]:1", "::1", 1),
     ("tls://10.0.0.10:65535", "10.0.0.10", 65535)],
)  # fmt: skip
def test_a_key_holder_elsewhere_is_an_address_and_paths(
    tmp_path: Path, text: str, host: str, port: int
):
    make_certificates(tmp_path, [host], datetime.now(UTC))
    settings = read_settings({"MANA_KEYS_ADDRESS": text, "MANA_KEYS_DIR": str(tmp_path)})
    asked = settings.key_address
    assert asked is not None
    assert (asked.host, asked.port, settings.runs_key_holder) == (host, port, False)
    assert asked.files.key_file == str(tmp_path / "tls-client.key")
    assert b"BEGIN" not in settings.to_wire()


@pytest.mark.parametrize(
    ("variable", "text", "name"),
    [("MANA_KEYS_LISTEN", "127.0.0.1:7443", "tls-server"),
     ("MANA_KEYS_ADDRESS", "tls://localhost:7443", "tls-client")],
)  # fmt: skip
def test_a_start_without_usable_certificates_is_stopped(
    tmp_path: Path, variable: str, text: str, name: str
):
    env = {variable: text, "MANA_KEYS_DIR": str(tmp_path)}
    with pytest.raises(SettingsError, match=rf"^{variable}: there is no file .*{name}\.pem"):
        read_settings(env)
    read_settings(env, serves=False)  # so that `mana keys new tls` can make them
    make_certificates(tmp_path, [], datetime.now(UTC))
    read_settings(env)
    (tmp_path / f"{name}.key").chmod(0o644)
    with pytest.raises(SettingsError, match=rf"^{variable}: .*{name}\.key can be read by others"):
        read_settings(env)
    with pytest.raises(SettingsError, match="there is no file /nowhere"):
        read_settings(env | {"MANA_KEYS_TLS_CA_FILE": "/nowhere"})


def test_no_setting_holds_a_secret(tmp_path: Path):
    env = {
        "MANA_SERVICE_KEY": "a-secret-of-some-length",
        "MANA_LLM_API_KEY": "sk-secret",
        "SYNC_DATABASE_URL": "postgresql://log:p%40ss@db:5433/sync?sslmode=require",
    }
    for variable, text in env.items():
        with pytest.raises(SettingsError, match=variable) as caught:
            read_settings({variable: text})
        assert text not in str(caught.value)
    moved = secrets_into_files(env, tmp_path)
    settings = read_settings(moved)
    assert settings.database_url == "postgresql://log@db:5433/sync?sslmode=require"
    assert read_service_key(settings) == "a-secret-of-some-length"
    everything = f"{moved} {settings.to_wire()!r}"
    assert not re.search("secret-of|sk-secret|p@ss|p%40ss", everything)
    assert (tmp_path / "database").read_text() == "p@ss\n"
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_only_the_embedded_mode_makes_a_service_key(tmp_path: Path):
    env = {"MANA_DATA_DIR": str(tmp_path)}
    key = read_service_key(read_settings(env))
    assert len(key) >= 32
    assert read_service_key(read_settings(env)) == key
    other = {"MANA_DATA_DIR": str(tmp_path / "b"), "SYNC_DATABASE_URL": "postgresql://u@h/d"}
    with pytest.raises(SettingsError, match="MANA_SERVICE_KEY_FILE"):
        read_settings(other)
    assert not read_settings(other, serves=False).is_embedded


@pytest.mark.parametrize("key", ["", "short", "dev-service-key", "ä" * 20, "two words of a key"])
def test_a_guessable_or_unsendable_service_key_is_refused(tmp_path: Path, key: str):
    path = tmp_path / "key"
    path.write_text(key)
    settings = read_settings({"MANA_DATA_DIR": str(tmp_path), "MANA_SERVICE_KEY_FILE": str(path)})
    with pytest.raises(SettingsError, match="MANA_SERVICE_KEY_FILE"):
        read_service_key(settings)


def test_the_vault_needs_an_auth_service_and_lists_are_exact(tmp_path: Path):
    kek = tmp_path / "kek"
    kek.write_text("x")
    with pytest.raises(SettingsError, match=r"^MANA_AUTH_URL: "):
        read_settings({"MANA_AUTH_KEK_FILE": str(kek)})
    env = {
        "MANA_AUTH_KEK_FILE": str(kek),
        "MANA_AUTH_URL": "http://auth:3001/",
        "JWT_ISSUER": "https://a, https://b",
        "CORS_ORIGINS": "https://mana.how,http://localhost:5173",
        "MANA_GRANT_ISSUER": "false",
    }
    settings = Settings.from_wire(read_settings(env).to_wire())
    assert settings.jwt_issuers == ("https://a", "https://b")
    assert settings.cors_origins == ("https://mana.how", "http://localhost:5173")
    assert (settings.auth_url, settings.grant_issuer) == ("http://auth:3001/", False)
    assert read_settings({}).auth_url is None


def test_doors_are_bounded_and_named_as_settings_say():
    env = {
        "MANA_HOST": "192.0.2.1",
        "MANA_PUBLIC_URL": "https://mana.example.org, http://mana.internal:3067",
        "MANA_PROXIES": "10.0.0.0/8,::1",
        "MANA_CONNECTIONS_MAX": "64",
        "MANA_CONNECTIONS_PER_ADDRESS": "8",
    }
    settings = Settings.from_wire(read_settings(env, serves=False).to_wire())
    limits = settings.limits
    assert (limits.most, limits.per_address, limits.proxies) == (64, 8, ("10.0.0.0/8", "::1"))
    assert settings.names.public == ("https://mana.example.org", "http://mana.internal:3067")
    assert settings.names.any_address  # it listens for others
    assert not settings.operators_names.any_address
    assert not read_settings({}, serves=False).names.any_address
