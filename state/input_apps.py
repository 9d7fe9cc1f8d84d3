"""Which sync channel (`app_id`) an input module's records live in (tick §6)."""

from __future__ import annotations

from collections.abc import Iterable

from state.records import InputRef

INPUT_APPS = {
    "goals": "companion",
    "notes": "notes",
    "tasks": "todo",
    "todo": "todo",
    "calendar": "calendar",
    "journal": "journal",
    "kontext": "kontext",
    "profile": "profile",
}


def scope_of(inputs: Iterable[InputRef]) -> list[str]:
    """The capability scope that lets an agent read these inputs: `app/table/record`, sorted."""
    return sorted(
        {
            f"{INPUT_APPS[ref.module]}/{ref.table}/{ref.id}"
            for ref in inputs
            if ref.module in INPUT_APPS
        }
    )
