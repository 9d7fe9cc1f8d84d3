"""What a run made of decrypted inputs, sealed for its owner before it is written (D-42)."""

from __future__ import annotations

import secrets
from typing import Any

from mana_actors.agent.attempt.last_write import Run
from state.sealing.derived_text import Place, sealed_iteration
from state.sealing.key_pairs import OwnerKey
from state.sealing.values import IV_BYTES, KEY_BYTES, DataKey


def sealed_for(owner: OwnerKey | None, run: Run, iteration: dict[str, Any]) -> dict[str, Any]:
    """The iteration under a key of its own; as it is where its owner registered none."""
    if owner is None:
        return iteration
    place = Place(run.user_id, run.mission_id, iteration["id"])
    with DataKey(bytearray(secrets.token_bytes(KEY_BYTES))) as key:
        return sealed_iteration(iteration, owner, place, key, _new_iv)


def _new_iv() -> bytes:
    return secrets.token_bytes(IV_BYTES)
