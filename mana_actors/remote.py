"""Typed handles: the only place where `.remote` is called.

Every call has a time limit: adopting an actor that is stopped would otherwise wait for ever.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import time
from collections.abc import Awaitable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar, cast

import msgspec
import ray
from ray.exceptions import RayError

from mana_actors.background import Background, begun_apart
from mana_actors.messages import Identity, decode_identity, encode
from mana_actors.processes import AgentProcess, ProcessGone

log = logging.getLogger("mana.remote")
T = TypeVar("T")

NAMESPACE = "mana"
OFFERED = {"mana": 1.0}
"""The resource of nodes where a model router answers: what agents ask for there is there."""
ASKED = {"mana": 0.0001}  # the least that Ray knows
PIECE_BYTES = 64 * 1024
_REPORT_TRIES = 6


def in_pieces(raw: bytes) -> list[bytes]:
    """A message as arguments that travel with the call: longer ones Ray keeps in shared memory."""
    return [raw[at : at + PIECE_BYTES] for at in range(0, max(1, len(raw)), PIECE_BYTES)]


class RayPlaces(msgspec.Struct, frozen=True):
    """Where the Ray of this process is: its folder, its sockets and its addresses (HOST:PORT)."""

    folder: str
    raylet_socket: str
    store_socket: str
    raylet_address: str
    gcs_address: str


def ray_places() -> RayPlaces:
    """What Ray told this process when it joined; asks nobody, so it works while Ray hangs."""
    node: Any = importlib.import_module("ray._private.worker").global_worker.node
    return RayPlaces(
        folder=node.get_session_dir_path(),
        raylet_socket=node.raylet_socket_name,
        store_socket=node.plasma_store_socket_name,
        raylet_address=f"{node.node_ip_address}:{node.node_manager_port}",
        gcs_address=node.gcs_address,
    )


class RayProcess:
    """An agent process that is a Ray actor."""

    def __init__(self, name: str, handle: Any) -> None:
        self._name, self._handle = name, handle

    @property
    def name(self) -> str:
        return self._name

    async def tell(self, message: msgspec.Struct, timeout_s: float = 10.0) -> Identity:
        call = self._handle.tell.remote(*in_pieces(encode(message)))
        return decode_identity(await answered(self._name, call, timeout_s))

    async def gone(self) -> None:
        try:
            await self._handle.until_gone.remote()
        except RayError:
            return

    def kill(self) -> None:
        try:
            ray.kill(self._handle)
        except (RayError, ValueError):
            log.info("process_was_gone process=%s", self._name)


class RayProcesses:
    """Agent processes on this Ray cluster: detached, never restarted, so that dying is final.

    They land on nodes that have the resources `asked`, in turn; without, on any.
    """

    def __init__(
        self, actor_class: type, release: str, asked: Mapping[str, float] | None = None
    ) -> None:
        self._release, self._asked = release, dict(asked or {})
        self._remote = cast("Any", ray.remote(actor_class))

    def create(self, name: str) -> AgentProcess:
        options = self._remote.options(
            name=name,
            namespace=NAMESPACE,
            lifetime="detached",
            max_restarts=0,
            max_task_retries=0,
            num_cpus=0,
            resources=self._asked,
            # For what asks for anything, Ray would fill the supervisor's own node first.
            scheduling_strategy="SPREAD",
            max_concurrency=1000,
        )
        return RayProcess(name, options.remote(name, self._release, OwnProcess()))

    def existing(self, prefix: str) -> list[AgentProcess]:
        found: list[AgentProcess] = []
        entries = cast("list[dict[str, str]]", ray.util.list_named_actors(all_namespaces=True))
        for entry in entries:
            name = entry["name"]
            if entry["namespace"] == NAMESPACE and name.startswith(prefix):
                try:
                    found.append(RayProcess(name, _named(name)))
                except ValueError:
                    continue  # died since it was listed
        return found


def _named(name: str) -> Any:
    return cast("Any", ray.get_actor(name, namespace=NAMESPACE))


async def answered(name: str, call: Awaitable[T], timeout_s: float) -> T:
    """What a remote call returned; raises ProcessGone where nobody answers in time."""
    try:
        async with asyncio.timeout(timeout_s):
            return await call
    except (RayError, TimeoutError) as exc:
        raise ProcessGone(name) from exc


class OwnProcess:
    """Where an agent of Ray's lives: a process that is nobody else's."""

    def __init__(self) -> None:
        self.work = Background()

    async def report(self, supervisor: str, raw: bytes) -> None:
        """Hand a report over, again while its supervisor restarts: the run row has the truth."""
        for attempt in range(_REPORT_TRIES):
            try:
                handle = _named(supervisor)
                await answered(supervisor, handle.report.remote(raw), 10.0)
                return
            except (ProcessGone, ValueError):
                await asyncio.sleep(0.25 * 2**attempt)
        log.warning("report_not_delivered supervisor=%s", supervisor)

    def end(self) -> None:
        """End the process at once: what it was doing is in Postgres."""
        os._exit(0)


class SupervisorHandle:
    """The supervisor as gateway and node see it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._handle: Any = None  # outlives restarts of the actor; another actor needs another
        self._finding: Future[Any] | None = None

    async def call(self, method: str, *args: Any, timeout_s: float = 5.0) -> Any:
        """One method's answer; raises ProcessGone, in time also while Ray's head is silent."""
        began = time.monotonic()
        try:
            handle = self._handle or await asyncio.wait_for(self._found(), timeout_s)
        except (RayError, ValueError, TimeoutError) as exc:
            raise ProcessGone(self.name) from exc
        left_s = max(0.0, timeout_s - (time.monotonic() - began))
        try:
            return await answered(self.name, getattr(handle, method).remote(*args), left_s)
        except ProcessGone:
            self._handle = None
            raise

    async def _found(self) -> Any:
        """The actor of this name, asked for in a thread: the head may never answer."""
        if self._finding is None:
            self._finding = begun_apart(partial(_named, self.name))
        finding = self._finding
        try:
            self._handle = await asyncio.shield(asyncio.wrap_future(finding))
        finally:
            if finding.done() and self._finding is finding:
                self._finding = None
        return self._handle

    async def tick(self) -> str:
        """Begin a scan now; its id."""
        return str(await self.call("tick"))

    async def tick_status(self, tick_id: str) -> dict[str, Any] | None:
        """How a scan is doing."""
        return await self.call("tick_status", tick_id)

    async def stop_run(
        self, user_id: str, agent_id: str, mission_id: str, run_id: str, reason: str
    ) -> None:
        """Have an agent drop a run that was cancelled."""
        await self.call("stop_run", user_id, agent_id, mission_id, run_id, reason)

    async def status(self) -> dict[str, Any]:
        """Facts for operators."""
        return await self.call("status")

    async def memory_of(self, user_id: str, agent_id: str) -> dict[str, Any] | None:
        """What an agent's process holds, None where it sleeps."""
        return await self.call("memory_of", user_id, agent_id)

    async def metrics(self) -> dict[str, Any]:
        """Counters since the supervisor began."""
        return await self.call("metrics")

    async def drain(self, within_s: float) -> int:
        """Start nothing more, wait for what runs; returns runs still under way."""
        return int(await self.call("drain", within_s, timeout_s=within_s + 10))
