"""The issuer as a process of its own: it serves people without Ray, and ends when told."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from supervisor.custody.service_keys import known_issuers
from supervisor.node.settings import Settings, SettingsError
from tests.fake_auth import FakeAuth
from tests.owners import VAULT, Desk, key_variables
from tests.postgres import LOG_OWNER, Database

pytestmark = pytest.mark.one_postgres


def issuer_environment(database: Database, folder: Path, auth_url: str) -> dict[str, str]:
    """What an issuer of its own is told, with no secrets but those that it needs."""
    secrets = folder / "secrets-of-issuer"
    secrets.mkdir(exist_ok=True)
    for role in ("mana_issuer", "mana_gateway"):
        shutil.copy(database.password_file(role), secrets)
    return {
        "PATH": os.defpath,
        "PORT": "0",
        "MANA_DATA_DIR": str(folder),
        "MANA_SECRETS_DIR": str(secrets),
        "SYNC_DATABASE_URL": database.dsn(LOG_OWNER),
        "MANA_AUTH_URL": auth_url,
        **key_variables(folder),
    }


def _loaded(pid: int) -> str:
    """Every library in a process."""
    return Path(f"/proc/{pid}/maps").read_text()


@contextmanager
def started_issuer(env: dict[str, str]) -> Generator[subprocess.Popen[str]]:
    """It, killed in the end; its first line says where it is."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(
        [sys.executable, "-m", "supervisor.custody.issuer"], env=env, **pipes
    ) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_an_issuer_of_its_own_serves_people_and_knows_nothing_of_ray(
    database: Database, tmp_path: Path
):
    async with FakeAuth() as auth:
        with started_issuer(issuer_environment(database, tmp_path, auth.url)) as process:
            assert process.stdout is not None
            url = process.stdout.readline().removeprefix("ready at ").strip()
            async with httpx2.AsyncClient(base_url=url, trust_env=False) as client:
                assert len(await Desk(client, auth, "u1").key()) == 32
                assert (await client.get(f"{VAULT}/key")).status_code == 401
                assert (await client.get("/internal/status")).status_code == 404
                assert (await client.get("/health")).json()["ok"] is True
            assert "_raylet" not in _loaded(process.pid)
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0


@pytest.mark.parametrize("variable", ["SYNC_DATABASE_URL", "MANA_AUTH_URL", "MANA_AUTH_KEK_FILE"])
def test_an_issuer_with_a_wrong_setting_says_which(
    database: Database, tmp_path: Path, variable: str
):
    env = issuer_environment(database, tmp_path, "http://127.0.0.1:9")
    if variable.endswith("_FILE"):
        Path(env[variable]).write_text("no key")
    else:
        del env[variable]
    with started_issuer(env) as process:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 2
    assert said.startswith(f"error: {variable}: ")
    assert said.count("\n") == 1


def test_an_issuers_key_that_is_none_stops_the_start_and_is_named(tmp_path: Path):
    (tmp_path / "issuer-other.pub.pem").write_text("no key")
    settings = Settings(data_dir="", secrets_dir="", keys_dir=str(tmp_path))
    with pytest.raises(SettingsError, match=r"MANA_KEYS_DIR.*issuer-other\.pub\.pem"):
        known_issuers(settings, None)
