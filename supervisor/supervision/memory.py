"""How much memory awake agents may take together."""

from __future__ import annotations

import os

from supervisor.node.settings import Settings

MIB = 1024 * 1024


def awake_memory_bytes(settings: Settings) -> int:
    """The setting, else half of this machine's memory."""
    if settings.agent_memory_mb is not None:
        return settings.agent_memory_mb * MIB
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
