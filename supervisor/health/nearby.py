"""What a command sees of a node whose gateway does not answer, by looking around on its machine."""

from __future__ import annotations

from pathlib import Path

from state.store import embedded
from state.store.embedded.places import Places
from supervisor.health.room import MB, reserves, rooms_in
from supervisor.node.keeper.state import read_state
from supervisor.node.settings import Settings


def signs_nearby(settings: Settings) -> list[str]:
    """What is wrong on this machine, a line for each; asks no server and waits for nothing."""
    folder = Path(settings.data_dir)
    found: list[str] = []
    if (state := read_state(folder)) is not None:
        why = f": {state.why}" if state.why else ""
        found.append(f"node: {state.phase} since {state.since:%H:%M:%S} UTC{why}")
    found += [
        f"disk: {name} {room.reserve.path} has {room.free_bytes // MB} MB left; make room"
        for name, room in rooms_in(reserves(settings, None)).items()
        if room.is_short()
    ]
    if settings.is_embedded and Places(folder).data.exists() and embedded.status(folder) is None:
        found.append("database: the embedded Postgres does not run; see mana logs")
    return found
