"""The LlmRouter as a Ray actor: serves HTTP on loopback from a thread of its own, one per node.

Nothing of a prompt passes through Ray: its methods carry a reload and an address, no more. The
constructor does no IO. Provider keys are read in this process only, from their files.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import time
from pathlib import Path

from mana_actors.crash import keep_to_ourselves
from mana_actors.http.door import Doorway, Limits
from mana_actors.http.server import server_of
from mana_actors.http.sockets import CannotListen, affordable, bound_socket
from mana_actors.llm.router.service import LlmRouter
from mana_actors.llm.router.settings import RouterSettings
from mana_actors.logs import configure_logging, keep_texts_out

log = logging.getLogger("mana.llm")

MOST_CONNECTIONS = 1024
KEEP_ALIVE_S = 60  # agents call again and again
_BIND_AGAIN_S = 0.5
_TOLD_WITHIN_S = 3.0
_HOST = "127.0.0.1"


class LlmRouterActor:
    """Starts listening in the background; `address` waits for the first try."""

    def __init__(self, settings: bytes) -> None:
        keep_to_ourselves()
        self._settings = RouterSettings.from_wire(settings)
        self._loop = asyncio.new_event_loop()
        self._tried = threading.Event()
        self._router: LlmRouter | None = None
        self._problem = ""
        threading.Thread(target=self._serve, name="llm-router", daemon=True).start()
        gc.collect()
        gc.freeze()  # what is loaded for good is not looked at again while calls wait

    def address(self) -> tuple[str, str]:
        """The base address, and one line on why it is not listening ("" when it is)."""
        self._tried.wait()
        return self._settings.url, self._problem

    async def reload(self) -> bool:
        """Read the alias file again; False if it is wrong, and then the old one stays in force."""
        if self._router is None:
            return False
        again = asyncio.run_coroutine_threadsafe(self._router.source.reload(), self._loop)
        return await asyncio.wrap_future(again)

    def pid(self) -> int:
        """This process, for tests that kill it."""
        return os.getpid()

    def _serve(self) -> None:
        configure_logging("router")
        asyncio.set_event_loop(self._loop)
        keep_texts_out(self._loop)
        try:
            self._loop.run_until_complete(self._run())
        except BaseException as exc:  # noqa: BLE001 - whatever it was: a fresh process
            log.error("router_broken error=%s", type(exc).__name__)  # noqa: TRY400 - may hold text
            self._problem = str(exc) or type(exc).__name__
            self._tried.set()
            time.sleep(_TOLD_WITHIN_S)  # for who waits for the address
            os._exit(1)  # Ray starts a new one, which reads its files again

    async def _run(self) -> None:
        token = (await asyncio.to_thread(Path(self._settings.token_file).read_text)).strip()
        self._router = router = LlmRouter(self._settings, token)
        await asyncio.gather(self._listen(router), router.keep())

    async def _listen(self, router: LlmRouter) -> None:
        """Serve. While the port is taken, perhaps by a router that is still ending, try again."""
        listening = None
        while listening is None:
            try:
                listening = bound_socket(_HOST, self._settings.port)
                self._problem = ""
                log.info("router_listening url=%s", self._settings.url)
            except CannotListen as exc:
                self._problem = f"port {exc.port}: {exc.reason}"
                self._tried.set()
                await asyncio.sleep(_BIND_AGAIN_S)
        self._tried.set()
        limits = Limits(most=affordable(MOST_CONNECTIONS))
        door = Doorway(limits, router.metrics.connection_ended)
        await server_of(router.app, door, keep_alive_s=KEEP_ALIVE_S).serve([listening])
