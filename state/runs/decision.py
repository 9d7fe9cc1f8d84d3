"""What a mission's owner is told about an occurrence; docs/operations.md says what each means."""

from __future__ import annotations

from typing import Literal

Decision = Literal[
    "ran",
    "failed",
    "withdrawn",
    "skipped-left-space",
    "skipped-unreadable",
    "skipped-missing-agent",
    "skipped-archived",
    "skipped-paused",
    "skipped-concurrency",
    "skipped-budget",
    "skipped-grant",
    "skipped-inputs",
    "skipped-missed",
    "deferred-browser-run",
    "deferred-disk-full",
    "deferred-barred",
]
"""Kept with the mission, in its history, and in the label of `agent_decisions_total`."""
