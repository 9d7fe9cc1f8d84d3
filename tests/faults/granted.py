"""Grants and what they open, for nodes whose key folder a test made."""

import json
from pathlib import Path
from typing import Any

import msgspec

from mana_actors.client.owner.sealing import OwnerKeys
from state.grants.grant import Derivation
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
    return OwnerKeys("", MASTER_KEY).seal("notes", _NOTE)


def copies(user: str, grant: dict[str, Any]) -> str:
    """The note as its owner hands it over for this grant, as JSON; of whichever version."""
    derivation = msgspec.convert(grant["derivation"], Derivation)
    (copy,) = OwnerKeys(user, MASTER_KEY).copies(derivation, {"notes:n1": note()})
    return json.dumps([{"table": copy.table, "id": copy.id, "fields": copy.fields}])
