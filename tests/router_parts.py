"""A model router on a port of its own, in a thread: the real app, over real sockets."""

import asyncio
import textwrap
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from mana_actors.http.door import Doorway
from mana_actors.http.server import HttpServer, server_of
from mana_actors.http.sockets import bound_socket
from mana_actors.llm.router.service import LlmRouter
from mana_actors.llm.router.settings import AliasFile, RouterSettings, Source

TOKEN = "router-token-for-tests"


class RunningRouter:
    """Use as a context manager; `url` is the base address, `router` what serves there."""

    def __init__(
        self, folder: Path, source: Source, door: Doorway | None = None, **settings: Any
    ) -> None:
        self._socket = bound_socket("127.0.0.1", 0)
        self.token_file = folder / "llm_token"
        self.token_file.write_text(TOKEN)
        self.settings = RouterSettings(
            port=int(self._socket.getsockname()[1]),
            token_file=str(self.token_file),
            secrets_dir=str(folder),
            source=source,
            **settings,
        )
        self.url = self.settings.url
        self.router: LlmRouter
        self._door = door
        self._loop = asyncio.new_event_loop()
        self._server: HttpServer
        self._thread = threading.Thread(target=self._run, daemon=True)

    def http(self, verb: str, path: str, **more: Any) -> httpx2.Response:
        """One request, with the token."""
        headers = {"authorization": f"Bearer {TOKEN}"} | more.pop("headers", {})
        return httpx2.request(verb, self.url + path, headers=headers, timeout=20, **more)

    def chat(self, model: str | None = "mana/fast-text", **more: Any) -> httpx2.Response:
        """One question; `headers` and keys of the request."""
        headers = more.pop("headers", {})
        body = {"messages": [{"role": "user", "content": "Hallo"}]} | more
        if model is not None:
            body["model"] = model
        return self.http("POST", "/v1/chat/completions", json=body, headers=headers)

    def metrics(self) -> str:
        """What it counted."""
        return self.http("GET", "/metrics").text

    def on_loop(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What a coroutine returns that runs where the router does."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self.router = LlmRouter(self.settings, TOKEN)
        keeping = asyncio.create_task(self.router.keep())
        self._server = server_of(self.router.app, self._door)
        self._ready.set()
        await self._server.serve([self._socket])
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await self.router.aclose()

    def __enter__(self) -> Self:
        self._ready = threading.Event()
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()


def alias_file(folder: Path, first: str, second: str, **more: str) -> AliasFile:
    """Two providers, `near` (local) and `far` (any), behind mana/fast-text in that order.

    `near_only` keeps the chain to the first one.
    """
    chain = "[near/small]" if more.get("near_only") else "[near/small, far/vendor/large]"
    path = folder / "aliases.yaml"
    path.write_text(
        textwrap.dedent(f"""
            default: mana/fast-text
            aliases:
              mana/fast-text: {{description: quick, chain: {chain}}}
              mana/far: {{chain: [far/vendor/large]}}
            providers:
              near: {{url: {first}/v1, exposure: local, probe_path: null}}
              far: {{url: {second}/v1, exposure: any, probe_path: null}}
            models:
              near/small: {{context: 8000, price: {{prompt: 0.5, completion: 1.5}}}}
        """)
    )
    return AliasFile(str(path))
