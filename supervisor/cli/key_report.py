"""What `mana keys check` finds: files, certificates, secrets, and how the key holder does."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from mana_actors.keys.client import KeyHolder, KeyHolderUnreachable
from state.errors import StateError
from state.store.rotation import CapabilitySecret
from supervisor.cli import direct
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
    requests: dict[str, int] | None = None
    try:
        requests = await _holder(settings).counts()
    except KeyHolderUnreachable as exc:
        wrong.append(f"{exc}: mana up, then mana logs")
    warnings = [warning for one in certificates if (warning := one.warning(now))]
    secrets = await _capability(settings)
    return KeyReport(not wrong, wrong, warnings, certificates, secrets, requests)


def lines_of(report: KeyReport) -> list[str]:
    """The report for a person."""
    lines = [*(report.faults or ["ok"]), *(f"soon: {line}" for line in report.warnings)]
    lines += [
        f"{one.file}: valid until {one.until:%Y-%m-%d}" for one in report.certificates if one.until
    ]
    if report.capability is None:
        lines.append("capability secrets: the database was not reached")
    lines += [_secret_line(one) for one in report.capability or ()]
    requests = sorted((report.requests or {}).items())
    return lines + [f"{outcome}: {times}" for outcome, times in requests]


def _secret_line(one: CapabilitySecret) -> str:
    what = f"capability secret {one.audience} {one.kid}, made {one.created_at:%Y-%m-%d %H:%M} UTC"
    if one.verifies_until is None:
        return f"{what}: signs"
    until = f"{one.verifies_until:%Y-%m-%d %H:%M} UTC"
    return f"{what}: {'verifies until' if one.verifies else 'ended at'} {until}"


def _certificate_files(settings: Settings) -> list[str]:
    """Those that are there, or that the settings need."""
    server, client = settings.key_server_files, settings.key_client_files
    files = [server.ca_file, server.cert_file, client.cert_file]
    wanted: set[str] = set()
    if settings.keys_listen is not None:
        wanted |= {server.ca_file, server.cert_file}
    if settings.keys_address is not None:
        wanted |= {client.ca_file, client.cert_file}
    return [file for file in files if file in wanted or Path(file).exists()]


def _holder(settings: Settings) -> KeyHolder:
    here = settings.runs_key_holder
    address = None if here else settings.key_address
    return KeyHolder(address or str(settings.key_socket), timeout_s=3)


async def _capability(settings: Settings) -> Sequence[CapabilitySecret] | None:
    try:
        return await direct.capability_secrets_now(settings)
    except (Failure, StateError):
        return None
