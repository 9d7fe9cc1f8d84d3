"""Real Postgres servers for tests: one of each version per session, a fresh database per test."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from state.store import embedded

LOG_OWNER = "mana_sync"
SUPERUSER = "postgres"
TEMPLATE = "mana_template"
SETTINGS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
FOLDER_PREFIX = "mana-test-"
MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 << 30
IN_MEMORY = {"max_wal_size": "256MB"}


class Source(msgspec.Struct, frozen=True):
    """Where a server's programs come from; without a folder, from the wheel."""

    name: str
    major: str | None = None
    bin_dir: Path | None = None

    def __str__(self) -> str:
        return self.name


def debian_programs() -> Path | None:
    """The folder of another Postgres, named by MANA_TEST_PG_BIN or pg_config; None when absent."""
    named = os.environ.get("MANA_TEST_PG_BIN")
    if named:
        return Path(named)
    pg_config = shutil.which("pg_config")
    if pg_config is None:
        return None
    answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=True)
    folder = Path(answer.stdout.strip())
    return folder if (folder / "initdb").exists() else None


def sources() -> list[Source]:
    """The servers to test on, the embedded one first; MANA_TEST_PG=pg15,pg18 picks among them."""
    found = [Source("pg18", major="18")]
    if os.environ.get("MANA_TEST_PG16"):
        found.append(Source("pg16", major="16"))
    debian = debian_programs()
    if debian is not None:
        answer = subprocess.run(
            [debian / "postgres", "--version"], capture_output=True, text=True, check=True
        )
        major = answer.stdout.split()[2].split(".")[0]
        found.append(Source(f"pg{major}", bin_dir=debian))
    wanted = os.environ.get("MANA_TEST_PG")
    return [one for one in found if wanted is None or one.name in wanted.split(",")]


def report() -> str:
    """Which servers the tests run on, and what is missing; for pytest's header."""
    there = ", ".join(f"{one} ({one.bin_dir or 'wheel'})" for one in sources())
    if debian_programs() is not None:
        return f"postgres: {there}"
    return f"postgres: {there}; ABSENT: Debian's 15 (install postgresql-15 or set MANA_TEST_PG_BIN)"


class Database(msgspec.Struct, frozen=True):
    """One test's own database; roles and their passwords are the server's."""

    server: embedded.Server
    name: str

    def dsn(self, role: str, *, tcp: bool = False) -> str:
        return self.server.dsn(role, self.name, tcp=tcp)

    def password_file(self, role: str) -> Path:
        return self.server.secret(role)

    def password(self, role: str) -> str:
        return embedded.read_password(self.password_file(role))

    @property
    def secrets_dir(self) -> Path:
        return self.server.password_file.parent

    async def connect(self, role: str, **options: Any) -> asyncpg.Connection:
        return await asyncpg.connect(self.dsn(role), password=self.password(role), **options)


class TestServer:
    """A running server that hands out databases."""

    __test__ = False

    def __init__(self, server: embedded.Server) -> None:
        self.server = server
        self._template_is_ready = False

    def migrated(self) -> Database:
        """A new database with today's schema, copied from a template migrated once."""
        if not self._template_is_ready:
            self._make_template()
            self._template_is_ready = True
        return self._create(f"test_{uuid.uuid4().hex[:12]}", TEMPLATE)

    def empty(self) -> Database:
        """A new database without any schema, owned by the log owner."""
        return self._create(f"test_{uuid.uuid4().hex[:12]}", "template1")

    def copy(self, database: Database) -> Database:
        """A new database with everything in another one, to which nobody may be connected."""
        return self._create(f"test_{uuid.uuid4().hex[:12]}", database.name)

    def drop(self, database: Database) -> None:
        self._admin(f"DROP DATABASE IF EXISTS {database.name} WITH (FORCE)")

    def _make_template(self) -> None:
        from state.store.migrate import migrate

        template = self._create(TEMPLATE, "template1")
        run_apart(
            migrate(
                template.dsn(LOG_OWNER),
                secrets_dir=template.secrets_dir,
                password=template.password(LOG_OWNER),
            )
        )

    def _create(self, name: str, template: str) -> Database:
        self._admin(f"CREATE DATABASE {name} OWNER {LOG_OWNER} TEMPLATE {template}")
        return Database(self.server, name)

    def _admin(self, statement: str) -> None:
        run_apart(self._execute(statement))

    async def _execute(self, statement: str) -> None:
        connection = await Database(self.server, "postgres").connect(SUPERUSER)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


def new_folder(parent: Path | None = None) -> Path:
    """A short folder that the server's OS account may enter, named after this process."""
    folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-", dir=parent))
    folder.chmod(0o711)
    return folder


def quickest_parent() -> Path | None:
    """Memory, where there is room: it makes a database ten times as fast as a disk."""
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < ROOM_BYTES:
        return None
    return MEMORY


def remove_folder(folder: Path) -> None:
    """Stop the server of a folder and remove it."""
    embedded.stop(folder, mode="immediate")
    shutil.rmtree(folder)


def sweep() -> None:
    """Stop and remove what a killed session of ours left."""
    for parent in (Path(tempfile.gettempdir()), MEMORY):
        for folder in parent.glob(f"{FOLDER_PREFIX}*-*"):
            pid = int(folder.name.removeprefix(FOLDER_PREFIX).partition("-")[0])
            with contextlib.suppress(FileNotFoundError):  # another session sweeps too
                if folder.stat().st_uid == os.geteuid() and not Path(f"/proc/{pid}").exists():
                    remove_folder(folder)


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[TestServer]:
    """A server of the version the test was asked to run on."""
    source: Source = request.param
    sweep()
    folder = new_folder(quickest_parent())
    try:
        yield TestServer(
            embedded.start(
                folder,
                progress=lambda _: None,
                settings=SETTINGS | IN_MEMORY,
                bin_dir=source.bin_dir,
                major=source.major,
            )
        )
    finally:
        remove_folder(folder)


@pytest.fixture
def database(postgres: TestServer) -> Iterator[Database]:
    """A fresh database with today's schema."""
    made = postgres.migrated()
    yield made
    postgres.drop(made)


@pytest.fixture
def empty_database(postgres: TestServer) -> Iterator[Database]:
    """A fresh database without any schema."""
    made = postgres.empty()
    yield made
    postgres.drop(made)


def run_apart(work: Coroutine[Any, Any, Any]) -> None:
    """Run it in a thread of its own, since the test may be inside an event loop."""
    with ThreadPoolExecutor(max_workers=1) as apart:
        apart.submit(asyncio.run, work).result()
