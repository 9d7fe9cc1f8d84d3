"""The key holder over TLS: certificates of our own CA on both sides, and nobody else is heard."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization as forms

from mana_actors.keys import tls_listener
from mana_actors.keys.__main__ import main
from mana_actors.keys.client import KeyHolder, KeyHolderUnreachable
from mana_actors.keys.key_files import KeyFileInvalid
from mana_actors.keys.server import KeyServer, SocketUnusable
from mana_actors.keys.tls import ServerTls, TlsAddress, TlsFiles, client_context
from mana_actors.keys.tls_listener import TlsListener
from supervisor.custody.certificates import (
    LIFE,
    NoAuthority,
    kept_hosts,
    make_certificates,
    renew_certificates,
    validity,
)
from supervisor.node.settings import CA, CLIENT, SERVER

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


def files(folder: Path, name: str) -> TlsFiles:
    """One side's files."""
    return TlsFiles(*(str(folder / part) for part in (f"{name}.pem", f"{name}.key", f"{CA}.pem")))


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    make_certificates(tmp_path / "ours", ["keys.internal"], NOW)
    return tmp_path / "ours"


@asynccontextmanager
async def listening(
    folder: Path, *, shows: TlsFiles | None = None, host: str = "127.0.0.1"
) -> AsyncGenerator[TlsListener]:
    # It counts, and is never asked for a key.
    server = KeyServer(Any, folder / "socket")  # pyright: ignore[reportArgumentType]
    listener = TlsListener(server, ServerTls(shows or files(folder, SERVER)), host, 0)
    async with listener.serving():
        yield listener


def holder(port: int, shown: TlsFiles, host: str = "localhost") -> KeyHolder:
    return KeyHolder(TlsAddress(host, port, shown), timeout_s=20)


async def counts(listener: TlsListener, folder: Path) -> dict[str, int]:
    """What an agent with the right certificate hears: it still serves."""
    return await holder(listener.port, files(folder, CLIENT)).counts()


async def unreachable(asked: KeyHolder) -> str:
    with pytest.raises(KeyHolderUnreachable) as caught:
        await asked.counts()
    return caught.value.why


async def heard(listener: TlsListener, folder: Path, outcome: str) -> int:
    """How often, once it was counted at all."""
    async with asyncio.timeout(20):
        while True:
            if outcome in (found := await counts(listener, folder)):
                return found[outcome]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_an_agent_with_our_certificate_is_answered(ours: Path, host: str):
    async with listening(ours) as listener:
        assert await holder(listener.port, files(ours, CLIENT), host).counts() == {}


async def test_it_listens_on_ipv6_too(ours: Path):
    async with listening(ours, host="::1") as listener:
        assert await holder(listener.port, files(ours, CLIENT), "::1").counts() == {}


def no_certificate(context: ssl.SSLContext, folder: Path) -> None:
    """It trusts the key holder and shows nothing."""


def of_another_ca(context: ssl.SSLContext, folder: Path) -> None:
    make_certificates(folder / "theirs", [], NOW)
    _show(context, files(folder / "theirs", CLIENT))


def expired(context: ssl.SSLContext, folder: Path) -> None:
    ca_pem = (folder / f"{CA}.pem").read_text()
    renew_certificates(folder, [], NOW - LIFE - DAY)  # by the same CA, a year and a day ago
    (folder / f"{CA}.pem").write_text(ca_pem)
    _show(context, files(folder, CLIENT))


def of_the_key_holder(context: ssl.SSLContext, folder: Path) -> None:
    _show(context, files(folder, SERVER))


def by_tls_1_2(context: ssl.SSLContext, folder: Path) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    _show(context, files(folder, CLIENT))


def _show(context: ssl.SSLContext, shown: TlsFiles) -> None:
    context.load_cert_chain(shown.cert_file, shown.key_file)


@pytest.mark.parametrize(
    "spoil", [no_certificate, of_another_ca, expired, of_the_key_holder, by_tls_1_2],
    ids=lambda spoil: spoil.__name__,
)  # fmt: skip
async def test_nobody_else_gets_through_the_handshake(
    ours: Path, tmp_path: Path, spoil: Callable[[ssl.SSLContext, Path], None],
    caplog: pytest.LogCaptureFixture,
):  # fmt: skip
    shutil.copytree(ours, tmp_path / "copy")
    context = ssl.create_default_context(cafile=ours / f"{CA}.pem")
    spoil(context, tmp_path / "copy")
    with caplog.at_level("INFO"):
        async with listening(ours) as listener:
            with pytest.raises(OSError):
                await _sent_and_heard(listener.port, context)
            assert await heard(listener, ours, "handshake-refused") == 1
    assert caplog.text.count("key_handshake_refused peer=127.0.0.1") == 1
    assert "Traceback" not in caplog.text


async def _sent_and_heard(port: int, context: ssl.SSLContext | None) -> bytes:
    """With TLS 1.3 a client learns of its refusal only when it reads."""
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
    try:
        writer.write(b"\x00\x00\x00\x01\xc1")
        raw = await reader.read(100)
        if not raw:
            raise ConnectionResetError
        return raw
    finally:
        writer.close()


@pytest.mark.parametrize("raw", [b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x05hello", b"\x16\x03"])
async def test_plain_text_is_not_answered(ours: Path, raw: bytes):
    async with listening(ours) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(raw)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        assert answer == b"" or answer[0] == 0x15  # a TLS alert
        assert await heard(listener, ours, "handshake-refused") == 1


async def test_those_who_dawdle_keep_nobody_out(ours: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tls_listener, "MAX_HANDSHAKES", 4)
    monkeypatch.setattr(tls_listener, "HANDSHAKE_S", 600.0)
    async with listening(ours) as listener:
        silent = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(12)]
        try:
            assert await counts(listener, ours) is not None
            assert await heard(listener, ours, "handshake-refused") >= 8
        finally:
            for one in silent:
                one.close()


async def test_a_handshake_has_its_time(ours: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tls_listener, "HANDSHAKE_S", 0.05)
    async with listening(ours) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()
        monkeypatch.setattr(tls_listener, "HANDSHAKE_S", 5.0)
        assert await heard(listener, ours, "handshake-refused") == 1


async def test_an_agent_speaks_to_nobody_but_the_key_holder(ours: Path, tmp_path: Path):
    make_certificates(tmp_path / "theirs", ["localhost"], NOW)
    theirs, agents = files(tmp_path / "theirs", SERVER), files(ours, CLIENT)
    pretenders = [
        msgspec.structs.replace(theirs, ca_file=agents.ca_file),
        agents,  # what every agent holds does not make a key holder
    ]
    for shown in pretenders:
        async with listening(ours, shows=shown) as listener:
            why = await unreachable(holder(listener.port, agents))
            assert why == "CERTIFICATE_VERIFY_FAILED", shown


async def test_what_every_agent_holds_makes_no_key_holder_whatever_its_name(ours: Path):
    context = client_context(files(ours, CLIENT))
    context.check_hostname = False
    async with listening(ours, shows=files(ours, CLIENT)) as listener:
        with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
            await asyncio.open_connection("localhost", listener.port, ssl=context)


async def test_an_agent_checks_the_name(ours: Path):
    async with listening(ours) as listener:
        context = client_context(files(ours, CLIENT))
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await asyncio.open_connection(
                "127.0.0.1", listener.port, ssl=context, server_hostname="other.internal"
            )
        _, writer = await asyncio.open_connection(
            "127.0.0.1", listener.port, ssl=context, server_hostname="keys.internal"
        )
        writer.close()


async def test_a_key_holder_that_is_away_is_unreachable(ours: Path):
    async with listening(ours) as listener:
        port = listener.port
    assert await unreachable(holder(port, files(ours, CLIENT))) == "ConnectionRefusedError"


async def test_a_renewal_needs_no_restart_and_shuts_nobody_out(ours: Path, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    _copy(ours, elsewhere)
    async with listening(ours) as listener:
        renew_certificates(ours, kept_hosts(ours), NOW)
        for folder in (elsewhere, ours):  # the other machine has the old files still
            assert await counts(listener, folder) == {}
        before = (elsewhere / f"{SERVER}.pem").read_bytes()
        assert before != (ours / f"{SERVER}.pem").read_bytes()
        _, writer = await asyncio.open_connection(
            "localhost", listener.port, ssl=client_context(files(ours, CLIENT))
        )
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        assert ssl.PEM_cert_to_DER_cert((ours / f"{SERVER}.pem").read_text()) == shown
        writer.close()
    assert set(kept_hosts(ours)) >= {"keys.internal", "localhost", "127.0.0.1", "::1"}


async def test_a_new_ca_shuts_out_what_the_old_one_signed(ours: Path, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    _copy(ours, elsewhere)
    async with listening(ours) as listener:
        assert await counts(listener, elsewhere) == {}
        make_certificates(ours, kept_hosts(ours), NOW)
        assert await unreachable(holder(listener.port, files(elsewhere, CLIENT)))
        mixed = msgspec.structs.replace(
            files(elsewhere, CLIENT), ca_file=files(ours, CLIENT).ca_file
        )
        assert await unreachable(holder(listener.port, mixed))
        assert await heard(listener, ours, "handshake-refused") == 2


def _copy(source: Path, target: Path) -> None:
    for name in (f"{CA}.pem", f"{CLIENT}.pem", f"{CLIENT}.key", f"{SERVER}.pem"):
        (target / name).write_bytes((source / name).read_bytes())
        (target / name).chmod(0o600)


@pytest.mark.parametrize("name", [f"{SERVER}.pem", f"{SERVER}.key", f"{CA}.pem"])
async def test_files_that_are_of_no_use_change_nothing(
    ours: Path, name: str, caplog: pytest.LogCaptureFixture
):
    async with listening(ours) as listener:
        whole = (ours / name).read_text()
        (ours / name).write_text("half of")
        agents = files(ours, CLIENT)
        (ours / "ca-of-agents.pem").write_text(whole if name == f"{CA}.pem" else _ca(ours))
        agents = msgspec.structs.replace(agents, ca_file=str(ours / "ca-of-agents.pem"))
        assert await holder(listener.port, agents).counts() == {}
        assert await holder(listener.port, agents).counts() == {}
    assert caplog.text.count("key_certificates_unusable") == 1
    assert "BEGIN" not in caplog.text


def _ca(folder: Path) -> str:
    return (folder / f"{CA}.pem").read_text()


async def test_a_key_that_others_may_read_is_refused_by_both_sides(ours: Path):
    (ours / f"{SERVER}.key").chmod(0o640)
    with pytest.raises(KeyFileInvalid, match=r"tls-server\.key: can be read by others"):
        ServerTls(files(ours, SERVER))
    (ours / f"{CLIENT}.key").chmod(0o604)
    assert await unreachable(holder(1, files(ours, CLIENT))) == "certificates-unusable"


async def test_missing_files_keep_an_agent_waiting(tmp_path: Path):
    assert await unreachable(holder(1, files(tmp_path, CLIENT))) == "certificates-unusable"


def test_a_key_with_a_password_is_refused(ours: Path):
    path = ours / f"{SERVER}.key"
    key = forms.load_pem_private_key(path.read_bytes(), None)
    locked = forms.BestAvailableEncryption(b"secret")
    path.write_bytes(key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, locked))
    with pytest.raises(KeyFileInvalid, match="no certificate for its key"):
        ServerTls(files(ours, SERVER))


def test_the_process_names_the_certificate_that_is_wrong(
    ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (ours / f"{SERVER}.pem").write_text("rubbish")
    shown = files(ours, SERVER)
    code = main(["--socket", str(tmp_path / "keys" / "socket"), "--dsn", "postgresql://localhost/x",
                 "--password-file", "x", "--listen", "127.0.0.1:1",
                 "--tls", shown.cert_file, shown.key_file, shown.ca_file])  # fmt: skip
    err = capsys.readouterr().err
    assert (code, err.count(f"error: {shown.cert_file}")) == (2, 1)
    assert "BEGIN" not in err


async def test_a_taken_port_is_named(ours: Path):
    async with listening(ours) as listener:
        second = KeyServer(Any, ours / "socket")  # pyright: ignore[reportArgumentType]
        tls = ServerTls(files(ours, SERVER))
        with pytest.raises(SocketUnusable, match=rf"127\.0\.0\.1:{listener.port}: cannot listen"):
            async with TlsListener(second, tls, "127.0.0.1", listener.port).serving():
                raise AssertionError("it listens")


def test_certificates_say_until_when_they_are_good(ours: Path, tmp_path: Path):
    paths = [str(ours / f"{name}.pem") for name in (CA, SERVER, CLIENT)]
    found = validity(paths)
    assert [one.until for one in found] == [(NOW + LIFE).replace(microsecond=0)] * 3
    for days, fault, warning in ((334, False, False), (336, False, True), (366, True, False)):
        at = NOW + days * DAY
        said = [(one.fault(at) is not None, one.warning(at) is not None) for one in found]
        assert said == [(fault, warning)] * 3, days
    (tmp_path / "x").write_text("rubbish")
    wrong = validity([str(tmp_path / "x"), str(tmp_path / "gone")])
    assert all(one.fault(NOW) and not one.warning(NOW) for one in wrong)


def test_nothing_is_renewed_without_our_ca(ours: Path, tmp_path: Path):
    with pytest.raises(NoAuthority, match=r"tls-ca\.key"):
        renew_certificates(tmp_path, [], NOW)
    (ours / f"{CA}.key").write_text("rubbish")
    with pytest.raises(NoAuthority, match=r"tls-ca\.key"):
        renew_certificates(ours, [], NOW)


def test_private_keys_are_ours_alone(ours: Path):
    assert {path.stat().st_mode & 0o777 for path in ours.glob("*.key")} == {0o600}
    assert ours.stat().st_mode & 0o777 == 0o700
