"""Grants and what they open, for nodes whose key folder a test made."""

import json
import secrets
from pathlib import Path
from typing import Any

from state.grants.grant import Derivation, derived_key
from state.sealing.copies import SEALED_FIELDS
from state.sealing.values import DataKey, sealed_record
from tests.integration.key_scene import MASTER_KEY, minted, write_keys

CANARY = "Erdbeerkuchen-7f3a"
REF = {"module": "notes", "table": "notes", "id": "n1"}
_NOTE = {"id": "n1", "title": "Einkauf", "content": f"Morgen {CANARY} backen"}


def key_folder(folder: Path) -> Path:
    """The folder with the keys that these grants are made for, as `mana keys new` names them."""
    private, issuer = write_keys(folder)
    private.rename(folder / "runner-1.pem")
    issuer.rename(folder / "issuer-1.pub.pem")
    return folder


def grant(user: str, mission: str) -> dict[str, Any]:
    """A week's leave to read the note."""
    return minted(mission, user, exposure="any")


def note() -> dict[str, Any]:
    """The note as its owner's client syncs it."""
    with DataKey(bytearray(MASTER_KEY)) as key:
        return _sealed(key)


def copies(user: str, grant: dict[str, Any]) -> str:
    """The note as its owner hands it over for this grant, as JSON."""
    given = grant["derivation"]
    derivation = Derivation("v2", given["missionId"], ["notes"], given["recordIds"], user)
    with derived_key(MASTER_KEY, user, derivation) as key:
        return json.dumps([{"table": "notes", "id": "n1", "fields": _sealed(key)}])


def _sealed(key: DataKey) -> dict[str, Any]:
    return sealed_record(_NOTE, SEALED_FIELDS["notes"], key, lambda: secrets.token_bytes(12))
