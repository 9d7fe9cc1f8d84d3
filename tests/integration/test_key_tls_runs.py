"""A key holder on another machine: runs read over TLS what they would read over the socket."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from mana_actors.keys.client import KeyHolder, KeyHolderUnreachable
from mana_actors.keys.tls import TlsAddress
from supervisor.custody.certificates import kept_hosts, make_certificates
from supervisor.node.key_holder import KeyHolderProcess
from supervisor.node.settings import Settings
from tests.integration.key_scene import HolderProcess, Scene, key_scene, minted
from tests.integration.support import DONE, PLAN, open_world, until
from tests.integration.test_granted_runs import CANARY, prepared
from tests.ports import free_port
from tests.postgres import Database

pytestmark = pytest.mark.one_postgres

NOWHERE = "postgresql://127.0.0.1:1/x"  # it connects when it is asked


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a node whose key holder agents elsewhere ask too."""
    port = free_port()
    made = Settings(
        data_dir=str(tmp_path),
        secrets_dir=str(tmp_path / "secrets"),
        keys_listen=f"127.0.0.1:{port}",
        keys_address=f"tls://localhost:{port}",
    )
    make_certificates(made.keys_path, ["localhost"], datetime.now(UTC))
    return made


def address(settings: Settings) -> TlsAddress:
    assert settings.key_address is not None
    return settings.key_address


@pytest.fixture
async def scene(
    database: Database, tmp_path: Path, settings: Settings
) -> AsyncGenerator[tuple[Scene, HolderProcess]]:
    """The key holder in a process of its own; runs have no socket to ask."""
    async with open_world(database) as world, key_scene(world, tmp_path / "unused") as scene:
        shown = settings.key_server_files
        holder = HolderProcess(
            world, tmp_path, "--listen", settings.keys_listen or "",
            "--tls", shown.cert_file, shown.key_file, shown.ca_file,
        )  # fmt: skip
        await holder.start()
        world.driver = world.new_driver(key_address=address(settings), key_socket="/nowhere")
        await world.driver.start()
        try:
            yield scene, holder
        finally:
            holder.kill()


async def test_a_run_reads_its_note_with_a_key_that_came_over_tls(
    scene: tuple[Scene, HolderProcess], settings: Settings
):
    at, holder = scene
    at.world.provider.script.extend([PLAN, DONE])
    await prepared(at, minted())
    assert (await at.world.run()).outcome == "ran"
    assert CANARY.encode() in at.world.provider.requests[0].raw
    assert await at.outcomes() == [("released", None)]
    assert await KeyHolder(address(settings)).counts() == {"released": 1}
    assert holder.stop() == 0
    assert not any(word in holder.log.read_text() for word in (CANARY, "notes:n1", "BEGIN"))


async def test_a_run_waits_for_a_key_holder_that_was_killed(scene: tuple[Scene, HolderProcess]):
    at, holder = scene
    at.world.provider.script.extend([PLAN, DONE])
    await prepared(at, minted())
    holder.kill()
    report = await at.world.run()
    assert report.outcome == "waiting"
    assert "key holder" in report.reason
    assert at.world.provider.requests == []
    await holder.start()
    await at.world.sql("UPDATE mana_ai.runs SET not_before = clock_timestamp()")
    assert (await at.world.run()).outcome == "ran"


async def test_a_run_whose_certificate_is_of_the_past_waits(
    scene: tuple[Scene, HolderProcess], settings: Settings
):
    """As on a machine to which nobody copied the files after `mana keys rotate tls --now`."""
    at, _ = scene
    await prepared(at, minted())
    make_certificates(settings.keys_path, kept_hosts(settings.keys_path), datetime.now(UTC))
    forgotten = Path(settings.data_dir, "elsewhere")
    make_certificates(forgotten, [], datetime.now(UTC))
    old = [str(forgotten / Path(path).name) for path in msgspec.structs.astuple(
        address(settings).files
    )]  # fmt: skip
    files = type(address(settings).files)(*old)
    at.world.driver = at.world.new_driver(
        key_address=msgspec.structs.replace(address(settings), files=files)
    )
    await at.world.driver.start()
    report = await at.world.run()
    assert report.outcome == "waiting"
    assert "CERTIFICATE_VERIFY_FAILED" in report.reason


async def test_the_nodes_key_holder_listens_where_it_is_told(settings: Settings):
    holder = KeyHolderProcess(settings, NOWHERE)
    try:
        await holder.tend()

        async def answers() -> bool:
            try:
                return await KeyHolder(address(settings)).counts() == {}
            except KeyHolderUnreachable:
                return False

        await until(answers, 60)
        assert await KeyHolder(str(settings.key_socket)).counts() == {}
    finally:
        await holder.stop()


async def test_a_node_that_asks_another_ones_key_holder_starts_none(settings: Settings):
    holder = KeyHolderProcess(msgspec.structs.replace(settings, keys_listen=None), NOWHERE)
    await holder.tend()
    await asyncio.sleep(0)
    assert not settings.key_socket.parent.exists()
    assert holder._process is None  # pyright: ignore[reportPrivateUsage]
