"""What `mana keys check` finds: files, certificates, secrets, and how the key holder does."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from mana_actors.keys.client import KeyHolder, KeyHolderUnreachable
from state.errors import StateError
from state.store.rotation import CapabilitySecret
from supervisor.cli import database
from supervisor.cli.failures import Failure
from supervisor.custody.certificates import Validity, validity
from supervisor.custody.key_folder import faults, key_folder
from supervisor.node.settings import Settings


class KeyReport(msgspec.Struct, frozen=True):
    """All that was found; what could not be asked is None."""

    ok: bool
    faults: Sequence[str]
    warnings: Sequence[str]
    certificates: Sequence[Validity]
    capability: Sequence[CapabilitySecret] | None
    requests: dict[str, int] | None


async def looked(settings: Settings) -> KeyReport:
    """A look at everything; never raises for what is not there."""
    now = datetime.now(UTC)
    certificates = validity(_certificate_files(settings))
    wrong = faults(key_folder(settings.keys_path)) if settings.runs_key_holder else []
    wrong += [fault for one in certificates if (fault := one.fault(now))]
    address = None if settings.runs_key_holder else settings.key_address
    requests: dict[str, int] | None = None
    try:
        requests = await KeyHolder(address or str(settings.key_socket), timeout_s=3).counts()
    except KeyHolderUnreachable as exc:
        wrong.append(f"{exc}: mana up, then mana logs")
    warnings = [warning for one in certificates if (warning := one.warning(now))]
    secrets: Sequence[CapabilitySecret] | None = None
    with suppress(Failure, StateError):
        secrets = await database.capability_secrets_now(settings)
    return KeyReport(
        ok=not wrong,
        faults=wrong,
        warnings=warnings,
        certificates=certificates,
        capability=secrets,
        requests=requests,
    )


def _certificate_files(settings: Settings) -> list[str]:
    """Those that are there, or that the settings need."""
    server, client = settings.key_server_files, settings.key_client_files
    needed: set[str] = set()
    if settings.keys_listen is not None:
        needed |= {server.ca_file, server.cert_file}
    if settings.keys_address is not None:
        needed |= {client.ca_file, client.cert_file}
    files = (server.ca_file, server.cert_file, client.cert_file)
    return [file for file in files if file in needed or Path(file).exists()]


def lines_of(report: KeyReport) -> list[str]:
    """The report for a person."""
    lines = [*(report.faults or ["ok"]), *(f"soon: {line}" for line in report.warnings)]
    lines += [
        f"{one.file}: valid until {one.until:%Y-%m-%d}" for one in report.certificates if one.until
    ]
    if report.capability is None:
        lines.append("capability secrets: the database was not reached")
    for one in report.capability or ():
        what = f"{one.audience} {one.kid}, made {one.created_at:%Y-%m-%d %H:%M} UTC"
        until = "signs"
        if one.verifies_until is not None:
            word = "verifies until" if one.verifies else "ended at"
            until = f"{word} {one.verifies_until:%Y-%m-%d %H:%M} UTC"
        lines.append(f"capability secret {what}: {until}")
    requests = sorted((report.requests or {}).items())
    return lines + [f"{outcome}: {times}" for outcome, times in requests]
