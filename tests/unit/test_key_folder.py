"""Keys of grants as files: made once, rotated beside the old ones, checked without showing any."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from mana_actors.keys.key_files import read_trust
from state.sealing import key_pairs
from supervisor.cli import run
from supervisor.cli.failures import FAILED, UNREACHABLE, USAGE
from supervisor.custody.certificates import kept_hosts, make_certificates
from supervisor.custody.key_folder import add_key, faults, key_folder
from supervisor.node.key_holder import command, environment
from supervisor.node.settings import Settings

NOW = datetime(2026, 4, 20, tzinfo=UTC)
LATER = datetime(2026, 4, 21, tzinfo=UTC)


def settings_for(folder: Path, *, accept_v1: bool = False) -> Settings:
    secrets_dir = str(folder / "secrets")
    return Settings(data_dir=str(folder), secrets_dir=secrets_dir, accept_v1_grants=accept_v1)


def test_a_new_pair_opens_what_its_public_half_wraps(tmp_path: Path):
    public = key_pairs.runner_public_key(add_key(tmp_path, "runner", NOW).read_text())
    add_key(tmp_path, "issuer", NOW)
    found = key_folder(tmp_path)
    trust = read_trust(found.runner_private, found.issuer_public)
    raw = key_pairs.wrapped(bytearray(32), public, "v2")
    assert len(raw) == 344
    assert trust.issuers.keys()
    assert faults(found) == []


def test_private_halves_are_ours_alone(tmp_path: Path):
    for kind in ("runner", "issuer"):
        add_key(tmp_path / "keys", kind, NOW)
    found = key_folder(tmp_path / "keys")
    private = [*found.runner_private, *found.issuer_private]
    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700


def test_the_newest_comes_first_and_the_older_stays(tmp_path: Path):
    old, new = add_key(tmp_path, "runner", NOW), add_key(tmp_path, "runner", LATER)
    found = key_folder(tmp_path)
    assert found.runner_public == (new, old)
    assert len(found.runner_private) == 2


def test_every_fault_names_its_file_and_shows_nothing(tmp_path: Path):
    assert len(faults(key_folder(tmp_path))) == 2  # neither key is there
    add_key(tmp_path, "runner", NOW)
    add_key(tmp_path, "issuer", NOW)
    found = key_folder(tmp_path)
    found.runner_private[0].chmod(0o644)
    found.issuer_private[0].write_text("rubbish")
    found.issuer_public[0].write_bytes(found.runner_public[0].read_bytes())
    said = faults(found)
    assert [line.partition(": ")[0] for line in said] == [
        str(found.runner_private[0]),
        str(found.issuer_private[0]),
        str(found.issuer_public[0]),
    ]
    assert not any("MII" in line or "rubbish" in line for line in said)


def test_the_key_holders_command_line_names_files_and_no_secret(tmp_path: Path):
    settings = settings_for(tmp_path)
    add_key(settings.keys_path, "runner", NOW)
    issuer = add_key(settings.keys_path, "issuer", NOW)
    given = command(settings, "postgresql://127.0.0.1/mana")
    assert str(issuer) in given
    assert "--accept-v1" not in given
    assert str(key_folder(settings.keys_path).issuer_private[0]) not in given
    open_to_v1 = settings_for(tmp_path, accept_v1=True)
    assert "--accept-v1" in command(open_to_v1, "postgresql://127.0.0.1/mana")


def test_the_key_holder_listens_elsewhere_only_where_told(tmp_path: Path):
    settings = settings_for(tmp_path)
    assert "--listen" not in command(settings, "postgresql://127.0.0.1/mana")
    told = msgspec.structs.replace(settings, keys_listen="0.0.0.0:7443")
    given = command(told, "postgresql://127.0.0.1/mana")
    at = given.index("--listen")
    names = ["tls-server.pem", "tls-server.key", "tls-ca.pem"]
    files = [str(settings.keys_path / name) for name in names]
    assert given[at : at + 6] == ["--listen", "0.0.0.0:7443", "--tls", *files]
    assert "--tls" not in given[at + 6 :]


def test_the_key_holder_inherits_nothing_that_could_be_secret():
    env = {"PATH": "/bin", "MANA_LLM_API_KEY": "x", "PYTHONPATH": "/evil", "LD_PRELOAD": "x"}
    assert environment(env) == {"PATH": "/bin"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("MANA_", "SYNC_")):
            monkeypatch.delenv(name)
    return tmp_path


def test_keys_are_made_once_and_rotated(place: Path, capsys: pytest.CaptureFixture[str]):
    asked = ["--data-dir", str(place)]
    assert run(["keys", "new", *asked]) == 0
    assert capsys.readouterr().out.count(".pub.pem") == 2
    assert run(["keys", "new", *asked]) == 0
    assert "rotate" in capsys.readouterr().out
    assert run(["keys", "rotate", "issuer", *asked]) == 0
    found = key_folder(place / "secrets" / "keys")
    assert (len(found.runner_private), len(found.issuer_private)) == (1, 2)
    assert run(["keys", "rotate", "everything", *asked]) == USAGE


def test_a_foreign_issuer_needs_none_of_ours(place: Path, capsys: pytest.CaptureFixture[str]):
    folder = place / "secrets" / "keys"
    public = add_key(folder, "issuer", NOW)
    public.with_name(public.name.replace(".pub", "")).unlink()
    assert run(["keys", "new", "--data-dir", str(place)]) == 0
    assert capsys.readouterr().out.count("issuer-") == 0


def test_check_says_what_is_wrong_and_asks_the_key_holder(
    place: Path, capsys: pytest.CaptureFixture[str]
):
    asked = ["--data-dir", str(place)]
    run(["keys", "new", *asked])
    capsys.readouterr()
    assert run(["keys", "check", "--json", *asked]) == FAILED
    told = json.loads(capsys.readouterr().out)
    assert told["requests"] is None
    assert [fault.partition(":")[0] for fault in told["faults"]] == [
        "the key holder did not answer"
    ]


def test_certificates_are_made_once_and_rotated(place: Path, capsys: pytest.CaptureFixture[str]):
    asked, folder = ["--data-dir", str(place)], place / "secrets" / "keys"
    assert run(["keys", "rotate", "tls", *asked]) == FAILED  # there is nothing to renew
    assert run(["keys", "new", "tls", "--host", "keys.internal", *asked]) == 0
    assert run(["keys", "new", "tls", *asked]) == FAILED
    ca_key = (folder / "tls-ca.key").read_bytes()
    server = (folder / "tls-server.pem").read_bytes()
    assert run(["keys", "rotate", "tls", *asked]) == 0
    assert "copy" in capsys.readouterr().out
    assert kept_hosts(folder)[0] == "keys.internal"
    assert (folder / "tls-ca.key").read_bytes() == ca_key
    assert (folder / "tls-server.pem").read_bytes() != server
    assert run(["keys", "rotate", "tls", "--now", "--host", "10.0.0.1", *asked]) == 0
    assert kept_hosts(folder)[0] == "10.0.0.1"
    assert (folder / "tls-ca.key").read_bytes() != ca_key


@pytest.mark.parametrize(
    "wrong",
    [["new", "everything"], ["new", "--host", "a"], ["new", "tls", "--host", "a b"],
     ["rotate", "runner", "--now"], ["rotate", "capability", "--host", "a"],
     ["rotate", "tls", "--host", "ü"]],
    ids=" ".join,
)  # fmt: skip
def test_a_wrong_command_makes_nothing(place: Path, wrong: list[str]):
    assert run(["keys", *wrong, "--data-dir", str(place)]) == USAGE
    assert not (place / "secrets").exists()


def test_check_names_certificates_that_end(place: Path, capsys: pytest.CaptureFixture[str]):
    asked, folder = ["--data-dir", str(place)], place / "secrets" / "keys"
    run(["keys", "new", *asked])
    make_certificates(folder, [], datetime.now(UTC) - timedelta(days=340))
    capsys.readouterr()
    run(["keys", "check", "--json", *asked])
    told = json.loads(capsys.readouterr().out)
    assert [line.partition(": ")[0] for line in told["warnings"]] == [
        str(folder / name) for name in ("tls-ca.pem", "tls-server.pem", "tls-client.pem")
    ]
    assert len(told["faults"]) == 1  # nobody answers
    make_certificates(folder, [], datetime.now(UTC) - timedelta(days=366))
    assert run(["keys", "check", *asked]) == FAILED
    out = capsys.readouterr().out
    assert out.count("expired on") == 3
    assert "mana keys rotate tls" in out


def test_check_misses_certificates_that_the_settings_need(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MANA_KEYS_ADDRESS", "tls://localhost:1")
    assert run(["keys", "check", "--json", "--data-dir", str(place)]) == FAILED
    told = json.loads(capsys.readouterr().out)
    assert sum("cannot be read" in fault for fault in told["faults"]) == 2
    assert told["capability"] is None


def test_a_rotation_of_capabilities_needs_the_database(
    place: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(["keys", "rotate", "capability", "--data-dir", str(place)]) == UNREACHABLE
    assert "mana up" in capsys.readouterr().err
