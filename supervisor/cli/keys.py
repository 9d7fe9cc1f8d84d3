"""`mana keys`: make, rotate and check the keys of grants."""
# ruff: noqa: PLC0415 - a command imports what it needs when called, so that each answers at once

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from supervisor.cli.failures import FAILED, USAGE, Failure
from supervisor.cli.options import AsJson, DataDir

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.settings import Settings

app = typer.Typer(help="Keys of grants: make, rotate, check.", no_args_is_help=True)


@app.command()
def new(*, data_dir: DataDir = None) -> None:
    """Make a runner's and an issuer's key where there is none; print the public files."""
    from supervisor.cli import shown
    from supervisor.key_folder import key_folder

    folder = _settings(data_dir).keys_path
    found = key_folder(folder)
    # Where another service mints, its public key is here, and an issuer of our own is not wanted.
    made = [] if found.runner_private else [_added(folder, "runner")]
    made += [] if found.issuer_public else [_added(folder, "issuer")]
    for path in made:
        shown.line_out(str(path))
    if not made:
        shown.line_out("there are keys already: mana keys rotate runner, or issuer")


@app.command()
def rotate(
    kind: Annotated[str, typer.Argument(help="runner or issuer", metavar="KIND")],
    *,
    data_dir: DataDir = None,
) -> None:
    """Add a newer key: grants made before it stay good until its file is removed."""
    from supervisor.cli import shown
    from supervisor.key_folder import KINDS

    if kind not in KINDS:
        raise Failure(f"expected runner or issuer, got {kind}", USAGE)
    shown.line_out(str(_added(_settings(data_dir).keys_path, kind)))
    shown.line_out("restart the node; remove the older key after 30 days, when no grant needs it")


@app.command()
def check(*, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Look at the key files, and ask the key holder what it did; exit 1 when something is wrong."""
    import asyncio

    from mana_actors.keys.client import KeyHolder
    from mana_actors.keys.errors import KeyHolderUnreachable
    from supervisor.cli import shown
    from supervisor.key_folder import faults, key_folder

    settings = _settings(data_dir)
    wrong = faults(key_folder(settings.keys_path))
    counts: dict[str, int] | None = None
    try:
        counts = asyncio.run(KeyHolder(str(settings.key_socket), timeout_s=3).counts())
    except KeyHolderUnreachable as exc:
        wrong.append(f"{exc}: mana up, then mana logs")
    if as_json:
        shown.json_out({"ok": not wrong, "faults": wrong, "requests": counts})
    else:
        _show(wrong, counts)
    raise typer.Exit(FAILED if wrong else 0)


def _show(wrong: list[str], counts: dict[str, int] | None) -> None:
    from supervisor.cli import shown

    for line in wrong or ["ok"]:
        shown.line_out(line)
    for outcome, times in sorted((counts or {}).items()):
        shown.line_out(f"{outcome}: {times}")


def _settings(data_dir: str | None) -> Settings:
    from supervisor.cli.environment import settings_of

    return settings_of({"MANA_DATA_DIR": data_dir})


def _added(folder: Path, kind: str) -> Path:
    from datetime import UTC, datetime

    from supervisor.key_folder import add_key

    return add_key(folder, "runner" if kind == "runner" else "issuer", datetime.now(UTC))
