"""`python -m supervisor.node.keeper`: a node that stays up, until a signal ends it.

`mana up` starts this detached; run it in the foreground under a service manager. SIGTERM drains:
nothing new starts, what runs may finish, everyone sleeps. A second one ends it at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mana_actors.crash import keep_to_ourselves
from mana_actors.http.sockets import CannotListen, bound_socket
from mana_actors.logs import configure_logging, cut_over
from state.errors import StateError
from state.private_files import own_root
from state.store import embedded
from supervisor.node.address import log_file, node_file
from supervisor.node.keeper import JOIN_WORK, WORK
from supervisor.node.keeper.life import Life, LifeEnd
from supervisor.node.keeper.processes import (
    MARK,
    adopt_orphans,
    descendants,
    end_all,
    mark_of,
    marked,
)
from supervisor.node.keeper.sole import AlreadyRuns, sole_node
from supervisor.node.keeper.state import STATE_FILE, NodeState, write_state
from supervisor.node.settings import Settings, SettingsError, read_settings
from supervisor.node.steps import tell_step, told_failure

STOP_S = 50.0
"""For the work to drain and end; what is left then is killed, and its runs resume next time."""
KILL_S = 10.0
LOG_S = 10.0
POSTGRES_S = 20.0
WAIT_MIN_S, WAIT_MAX_S = 0.25, 60.0
FIRST_STARTS = 3
"""Tries of a node that was not up yet; on a busy machine Ray loses a part while it starts."""
_LOOPBACK = "127.0.0.1"


class PortTaken(Exception):
    """A port that was asked for cannot be had; `str` is one line that names its variable."""


def main() -> int:
    """Keep a node until a signal ends it; 0: in order, 2: a wrong setting, 1: anything else."""
    parser = argparse.ArgumentParser(prog="mana-keeper", description=__doc__)
    parser.add_argument("--join", action="store_true", help="serve agents of another node only")
    work = JOIN_WORK if parser.parse_args().join else WORK
    keep_to_ourselves()
    configure_logging()
    try:
        settings = read_settings(os.environ, serves=work is WORK)
        own_root(Path(settings.data_dir))
        with sole_node(settings.data_dir):
            return asyncio.run(Keeper(settings, work, os.environ).run())
    except SettingsError as exc:
        return told_failure(exc, 2)
    except (StateError, CannotListen, PortTaken, AlreadyRuns, OSError) as exc:
        return told_failure(exc, 1)


class Keeper:
    """Starts the node's work, and again whenever that or its Ray ends."""

    def __init__(
        self, settings: Settings, work: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        self._settings, self._work = settings, work
        self._data_dir = Path(settings.data_dir)
        self._environment = dict(environment)
        self._state = NodeState.of(os.getpid())
        self._life: Life | None = None
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Start, start again, and end; the exit code."""
        mark = mark_of(self._data_dir)
        left = end_all(lambda: marked(mark), KILL_S)
        if left:
            shown = ", ".join(map(str, sorted(left)))
            tell_step(f"ended what an earlier node left running: processes {shown}")
        node_file(self._data_dir).unlink(missing_ok=True)
        # Ray's agents of a node would overwrite what marks them with their title.
        self._environment |= {MARK: mark, "SPT_NOENV": "1"}
        if self._work is WORK:
            self._environment |= ports_of(self._settings)
        adopt_orphans()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)
        tidying = asyncio.create_task(self._bound_log())
        try:
            return await self._keep()
        finally:
            tidying.cancel()
            end_all(self._of_the_work, KILL_S)
            if self._has_postgres:
                embedded.stop(self._data_dir, progress=tell_step, within_s=POSTGRES_S)
            for told in (node_file(self._data_dir), self._data_dir / STATE_FILE):
                told.unlink(missing_ok=True)
            tell_step("stopped")

    async def _keep(self) -> int:
        was_ready, wait_s, starts = False, WAIT_MIN_S, 0
        self._tell(self._state)
        while True:
            began, starts = time.monotonic(), starts + 1
            self._life = Life(self._work, self._environment, on_ready=self._is_up)
            ended = await self._life.over
            was_ready = was_ready or self._life.is_ready
            self._life = None
            # What ends by itself before it was up has said why, to somebody who reads it.
            comes_again = was_ready or (ended.code is None and starts < FIRST_STARTS)
            if comes_again and not self._stop.is_set():
                tell_step(f"{ended.why}: the node starts again")
                if was_ready:
                    self._tell(self._state.now("restarting", ended.why))
            end_all(self._of_the_work, KILL_S)
            if self._stop.is_set():
                return 0
            if not comes_again:
                if ended.code is None:
                    sys.stderr.write(f"error: the node did not start: {ended.why}\n")
                return ended.code or 1
            has_run_well = time.monotonic() - began > WAIT_MAX_S
            wait_s = WAIT_MIN_S if has_run_well else min(2 * wait_s, WAIT_MAX_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), wait_s)
                return 0

    async def _bound_log(self) -> None:
        """Keep what we and the work print from filling the disk, where that is the node's log."""
        log = log_file(self._data_dir)
        while True:
            await asyncio.sleep(LOG_S)
            is_up = self._life is not None and self._life.is_ready and not self._stop.is_set()
            with contextlib.suppress(OSError):  # a start or an end is shown from where it began
                if is_up and os.path.samestat(os.fstat(sys.stderr.fileno()), log.stat()):
                    cut_over(log)

    @property
    def _has_postgres(self) -> bool:
        return self._work is WORK and self._settings.is_embedded

    def _tell(self, state: NodeState) -> None:
        self._state = state
        write_state(self._data_dir, state)

    def _is_up(self) -> None:
        self._tell(self._state.now("up"))

    def _reload(self) -> None:
        if self._life is not None and self._life.is_ready:
            os.kill(self._life.child, signal.SIGHUP)

    def _asked_to_stop(self) -> None:
        life = self._life
        if life is None:
            pass  # nothing runs that could be stopped
        elif self._stop.is_set():
            life.end(LifeEnd("asked twice to stop"))
        else:
            self._tell(self._state.now("stopping"))
            life.ask_to_end()
            late = LifeEnd(f"not ended within {STOP_S:.0f} s")
            asyncio.get_running_loop().call_later(STOP_S, life.end, late)
        self._stop.set()

    def _reap(self) -> None:
        """Take leave of every child that ended; orphans became ours. Ray asks `kill(pid, 0)`."""
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                pid, status = found
                if self._life is not None and pid == self._life.child:
                    self._life.end(LifeEnd.of(status))

    def _of_the_work(self) -> set[int]:
        """What lives of the work; Postgres is to outlive it."""
        self._reap()
        found = descendants(os.getpid())
        postgres = embedded.process(self._data_dir) if self._has_postgres else None
        return found if postgres is None else found - {postgres} - descendants(postgres)


def ports_of(settings: Settings) -> dict[str, str]:
    """The ports to listen on, the same after each restart; a taken one fails here.

    In a Ray that we join, what listens there may be ours: it is ended once Ray can be asked.
    """
    operators = settings.operators_host, settings.operators_port
    wanted = (
        ("PORT", "", settings.host, settings.port),
        ("MANA_OPERATORS_PORT", "operators' door", *operators),
        ("MANA_LLM_PORT", "model router", _LOOPBACK, settings.llm_port),
    )
    found: dict[str, str] = {}
    with contextlib.ExitStack() as held:  # all at once, so that no two take the same
        for variable, part, host, port in wanted:
            found[variable] = str(port)
            if settings.ray_address is None or not port:
                try:
                    listening = held.enter_context(contextlib.closing(bound_socket(host, port)))
                except CannotListen as exc:
                    if not part:
                        raise
                    problem = f"the {part} did not start: port {exc.port}: {exc.reason}"
                    raise PortTaken(f"{problem}; choose another with {variable}") from exc
                found[variable] = str(listening.getsockname()[1])
    return found


if __name__ == "__main__":
    sys.exit(main())
