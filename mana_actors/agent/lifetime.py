"""When an agent's process ends by itself. Pure."""

from __future__ import annotations

AFTER_SECRETS_S = 30.0
"""What was decrypted stays in freed memory until the process ends: nobody may keep it for longer.

Its supervisor puts it to sleep as soon as it hears of the run's end; this is for one that is away.
"""


def why_end(
    *, idle_s: float, unheard_s: float, held_a_key: bool, heard_timeout_s: float
) -> str | None:
    """Why a process that runs nothing is to end now, None: it stays."""
    if held_a_key and idle_s > AFTER_SECRETS_S:
        return "it decrypted something and its run is over"
    return "nobody asks for it" if unheard_s > heard_timeout_s else None
