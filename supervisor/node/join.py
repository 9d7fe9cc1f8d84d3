"""A node that serves agents only: the model router, and then a raylet that offers them room.

`mana join` has a keeper start this on each machine but the first. Agents ask the router of their
own machine; so Ray may place them here once it answers, and no longer than it does.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from mana_actors import fork_server
from mana_actors.background import Background
from mana_actors.crash import keep_to_ourselves
from mana_actors.llm.router.actor import LlmRouterActor
from mana_actors.logs import FOLDER as LOG_FOLDER
from mana_actors.logs import configure_logging
from mana_actors.remote import OFFERED
from state.errors import StateError
from supervisor import __version__
from supervisor.node import models
from supervisor.node.address import log_file
from supervisor.node.credentials import ray_folder
from supervisor.node.keeper.life import READY
from supervisor.node.keeper.processes import descendants, end_with_parent, name_of
from supervisor.node.settings import Settings, SettingsError, read_settings
from supervisor.node.steps import tell_step, told_failure

STARTED_S = 120.0


class NotJoined(Exception):
    """A part did not start; `str` is one line that says which and why."""


def main() -> int:
    """Serve until a signal ends it; 0: in order, 2: a wrong setting, 1: anything else."""
    parser = argparse.ArgumentParser(prog="mana-join", description=__doc__)
    parser.add_argument("--tell", type=int, required=True, help="where the keeper listens")
    tell, keeper = parser.parse_args().tell, os.getppid()
    end_with_parent(keeper)
    keep_to_ourselves()
    configure_logging()
    try:
        settings = read_settings(os.environ, serves=False)
        _check(settings)
        asyncio.run(_serve(settings, keeper, tell))
    except SettingsError as exc:
        return told_failure(exc, 2)
    except (StateError, NotJoined, OSError) as exc:
        return told_failure(exc, 1)
    return 0


def _check(settings: Settings) -> None:
    """Raise SettingsError where an agent of the first node would miss something here."""
    for name in (models.TOKEN_FILE, settings.agent.role):
        if not Path(settings.secrets_dir, name).is_file():
            problem = f"copy {name} of the first node into {settings.secrets_dir}, mode 0600"
            raise SettingsError("MANA_SECRETS_DIR", problem)
    if not settings.llm_port:
        raise SettingsError("MANA_LLM_PORT", "name one, the same on all machines: agents ask it")
    if models.wants_rehearsal(settings):
        problem = "name the models as on the first node, here or in MANA_LLM_ALIASES"
        raise SettingsError("MANA_LLM_URL", problem)


async def _serve(settings: Settings, keeper: int, tell: int) -> None:
    """Start the router, then the raylet; whoever asked for the end, the keeper brings it about."""
    tell_step("starting the model router")
    service = None
    if settings.llm_aliases is None:
        service, found = await models.found_service(settings)
        tell_step(f"model service {found}")
    # In a thread of this process, which it ends, should it break.
    router = LlmRouterActor(models.router_settings(settings, __version__, None, service).to_wire())
    _, problem = await asyncio.to_thread(router.address)
    if problem:
        raise NotJoined(f"the model router did not start: {problem}")
    for pid in await asyncio.to_thread(_start_raylet, settings, keeper):
        os.write(tell, f"Ray's raylet {pid}\n".encode())
    stop, reloading = asyncio.Event(), Background()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: reloading.start(_reload(router)))
    os.write(tell, f"{READY}\n".encode())
    tell_step(f"ready for agents of the Ray at {settings.ray_address}")
    await stop.wait()


async def _reload(router: LlmRouterActor) -> None:
    await router.reload()  # it logs what came of it


def _start_raylet(settings: Settings, keeper: int) -> set[int]:
    """Have Ray start its part here, offering room to agents; the raylet's process."""
    tell_step(f"joining Ray at {settings.ray_address}")
    os.environ[LOG_FOLDER] = str(log_file(settings.data_dir).parent)
    program = Path(sys.executable).with_name("ray")
    command = [str(program), "start", f"--address={settings.ray_address}", "--disable-usage-stats"]
    command.append(f"--resources={msgspec.json.encode(OFFERED).decode()}")
    command.append(f"--temp-dir={ray_folder(Path(settings.data_dir))}")  # the head's may be open
    environment = {
        "RAY_worker_register_timeout_seconds": "120",
        "RAY_agent_register_timeout_ms": "120000",
        **os.environ,
    }
    if settings.fork_server:
        forks = Path(settings.data_dir, "forks")
        environment |= fork_server.variables(forks, os.environ.get("PYTHONPATH"))
    started = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=STARTED_S,
        check=False,
    )
    raylets = {pid for pid in descendants(keeper) if name_of(pid) == "raylet"}
    if started.returncode != 0 or not raylets:
        said = [line.strip() for line in (started.stderr + started.stdout).splitlines()]
        reason = next((line for line in reversed(said) if line), "it said nothing")
        raise NotJoined(f"Ray did not start: {reason}")
    return raylets


if __name__ == "__main__":
    sys.exit(main())
