"""The key holder without a database: what is sealed for whom, and which key files it takes."""

from __future__ import annotations

import os
import pickle
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mana_actors.keys import server
from mana_actors.keys.__main__ import main
from mana_actors.keys.client import KeyHolder, KeyHolderUnreachable, KeyWithheld
from mana_actors.keys.key_files import KeyFileInvalid, read_trust
from mana_actors.keys.protocol import AskerKeyInvalid, Binding, Ephemeral, sealed_to
from mana_actors.keys.server import KeyServer, SocketUnusable
from state.sealing.values import DataKey
from tests.integration.key_scene import PEMS, write_keys

BINDING = Binding(uuid.UUID(int=1), 1, "m1", uuid.UUID(int=2))


def data_key() -> DataKey:
    return DataKey(bytearray(range(32)))


def test_a_key_reaches_the_asker_alone():
    asker = Ephemeral()
    sealed_key = sealed_to(asker.public_key, data_key(), BINDING)
    assert bytes(range(32)) not in sealed_key
    with asker.opened(sealed_key, BINDING) as key:
        assert key.material == bytes(range(32))
    with pytest.raises(ValueError):
        Ephemeral().opened(sealed_key, BINDING)


@pytest.mark.parametrize(
    "other",
    [{"run_id": uuid.UUID(int=3)}, {"attempt": 2}, {"mission_id": "m2"},
     {"release_id": uuid.UUID(int=3)}],
    ids=str,
)  # fmt: skip
def test_an_answer_fits_no_other_request(other: dict[str, Any]):
    asker = Ephemeral()
    sealed_key = sealed_to(asker.public_key, data_key(), BINDING)
    with pytest.raises(ValueError):
        asker.opened(sealed_key, msgspec.structs.replace(BINDING, **other))


def test_every_changed_byte_of_an_answer_is_refused():
    asker = Ephemeral()
    sealed_key = sealed_to(asker.public_key, data_key(), BINDING)
    for at in range(len(sealed_key)):
        changed = bytearray(sealed_key)
        changed[at] ^= 1
        with pytest.raises(ValueError):
            asker.opened(bytes(changed), BINDING)


@pytest.mark.parametrize("public_key", [b"", bytes(31), bytes(32), bytes(33)])
def test_no_key_is_sealed_to_nobody(public_key: bytes):
    with pytest.raises(AskerKeyInvalid):
        sealed_to(public_key, data_key(), BINDING)


@pytest.mark.parametrize(
    "error",
    [KeyWithheld("expired"), KeyHolderUnreachable("timeout"), KeyFileInvalid("a", "b"),
     SocketUnusable("a", "b"), AskerKeyInvalid()],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_errors_survive_pickling(error: Exception):
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (type(again), str(again)) == (type(error), str(error))


def test_key_files_are_read(tmp_path: Path):
    private, issuer = write_keys(tmp_path)
    trust = read_trust([private], [issuer])
    assert (len(trust.private_keys), len(trust.issuers), trust.accept_v1) == (1, 1, False)


def test_a_private_key_that_others_may_read_is_refused(tmp_path: Path):
    private, issuer = write_keys(tmp_path)
    private.chmod(0o640)
    with pytest.raises(KeyFileInvalid, match=r"runner\.pem: can be read by others"):
        read_trust([private], [issuer])


@pytest.mark.parametrize("text", ["", "x", PEMS["a"]["publicPem"], "ä"])
def test_the_process_says_which_key_file_is_wrong_and_shows_none_of_it(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
):
    private, issuer = write_keys(tmp_path)
    private.write_text(text)
    socket = tmp_path / "keys" / "socket"
    code = main(["--socket", str(socket), "--dsn", "postgresql://localhost/x", "--password-file",
                 "x", "--private-key", str(private), "--issuer-key", str(issuer)])  # fmt: skip
    err = capsys.readouterr().err
    assert (code, err.count("\n"), socket.exists()) == (2, 1, False)
    assert str(private) in err
    assert "MII" not in err


@pytest.mark.parametrize("mode", [0o750, 0o707, 0o777])
async def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path, mode: int):
    folder = tmp_path / "keys"
    folder.mkdir()
    folder.chmod(mode)
    holder = KeyServer(Any, folder / "socket")  # pyright: ignore[reportArgumentType] # never asked
    with pytest.raises(SocketUnusable, match="mode 0700"):
        async with holder.serving():
            raise AssertionError("it listens")


async def test_nothing_but_a_socket_is_replaced(tmp_path: Path):
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    (folder / "socket").write_text("precious")
    holder = KeyServer(Any, folder / "socket")  # pyright: ignore[reportArgumentType] # never asked
    with pytest.raises(SocketUnusable):
        async with holder.serving():
            raise AssertionError("it listens")
    assert (folder / "socket").read_text() == "precious"
    assert os.listdir(folder) == ["socket"]  # noqa: PTH208 - names are enough


async def test_too_many_connections_are_told_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 0)
    path = tmp_path / "keys" / "socket"
    full = KeyServer(Any, path)  # pyright: ignore[reportArgumentType] # never asked
    async with full.serving():
        with pytest.raises(KeyHolderUnreachable, match="busy"):
            async with KeyHolder(str(path)).data_key("capability", uuid.uuid4(), 1, "m1"):
                raise AssertionError("it has no key")
