"""`mana tick`: ask for a scan and, if wanted, wait for it."""

import time
from typing import Any

from supervisor.cli.failures import Failure
from supervisor.cli.gateway_client import Gateway

POLL_S = 0.2
WAIT_S = 300.0


def tick_now(gateway: Gateway, *, is_waited_for: bool) -> tuple[dict[str, Any], bool]:
    """The answer, and whether the tick is over (then it is the stats)."""
    wait = {"wait": "8"} if is_waited_for else None
    told = gateway.call("POST", "/internal/tick", query=wait)
    if not is_waited_for or "id" not in told:
        return told, "id" not in told
    give_up = time.monotonic() + WAIT_S
    while time.monotonic() < give_up:
        report = gateway.get(f"/internal/tick/{told['id']}")
        if report["state"] != "running":
            return report["stats"], True
        time.sleep(POLL_S)
    raise Failure(f"tick {told['id']} is not over after {WAIT_S:.0f} s")
