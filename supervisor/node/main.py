"""A node's work: Postgres, Ray, supervisor and gateway, started in order and ended in reverse.

Its keeper (`supervisor/node/keeper/`) starts this, and again when this or its Ray ends: it goes on
from Postgres. SIGTERM drains: nothing new starts, what runs may finish, everyone sleeps.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import importlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

import httpx2
import msgspec
import ray
from ray.exceptions import ActorDiedError, RayError

from mana_actors import fork_server
from mana_actors.clients.answers import AnswerUnreadable, bounded_answer
from mana_actors.crash import keep_to_ourselves
from mana_actors.http.sockets import CannotListen, bound_socket
from mana_actors.llm.rehearsal.server import RehearsalServer
from mana_actors.llm.router.actor import LlmRouterActor
from mana_actors.llm.router.settings import RouterSettings
from mana_actors.logs import FOLDER as LOG_FOLDER
from mana_actors.logs import configure_logging
from mana_actors.messages import AgentSettings
from mana_actors.processes import ProcessGone
from mana_actors.release import release
from mana_actors.remote import ASKED, NAMESPACE, OFFERED, SupervisorHandle, ray_places
from mana_actors.trust import trust_for
from state.errors import StateError
from state.private_files import private_folder
from state.secret_files import kept_secret
from state.slots import Slots
from state.store import embedded
from state.store.migrate import migrate
from supervisor import __version__
from supervisor.gateway.actor import GatewayActor
from supervisor.health.ray_guard import RayGuard
from supervisor.health.ray_life import RayLife
from supervisor.node import models
from supervisor.node.address import log_file, write_node
from supervisor.node.credentials import (
    ray_folder,
    ray_place,
    ray_token_file,
    read_secret,
    read_service_key,
)
from supervisor.node.keeper import COMMAND
from supervisor.node.keeper.life import LOST, READY
from supervisor.node.keeper.processes import end_with_parent, ray_parts
from supervisor.node.key_holder import KeyHolderProcess
from supervisor.node.settings import Settings, SettingsError, read_settings, unused_variables
from supervisor.node.steps import tell_step, told_failure
from supervisor.node.tools_file import tools_of_file, tools_path
from supervisor.node.trial import (
    RouterSilent,
    ask_router,
    context_in_words,
    decoded,
    model_warnings,
    tried,
)
from supervisor.supervision.actor import SupervisorActor

log = logging.getLogger("mana.node")

DRAIN_S = 30.0
_WATCH_EVERY_S = 2.0
_TRY_S = 20.0
_GONE_S, _GONE_POLL_S = 10.0, 0.1
_MAKE_S, _MADE_AGAIN_S = 60.0, 10.0
_LOOPBACK = "127.0.0.1"
_OBJECT_STORE_BYTES = 80 * 1024 * 1024  # Ray carries ids and versions only


class StartFailed(Exception):
    """A part of the node did not start; `str` is one line that names it and why."""

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(part, reason)
        self.part, self.reason = part, reason

    def __str__(self) -> str:
        return f"{self.part} did not start: {self.reason}"


def main() -> int:
    """Work until a signal ends it; 0: in order, 2: a wrong setting, 1: anything else."""
    parser = argparse.ArgumentParser(prog="mana-node", description=__doc__)
    parser.add_argument("--tell", type=int, help="where the keeper listens")
    tell = parser.parse_args().tell
    if tell is None:  # started by hand
        os.execv(COMMAND[0], COMMAND)  # noqa: S606 - no shell is meant
    keeper = os.getppid()
    end_with_parent(keeper)
    keep_to_ourselves()
    configure_logging()
    try:
        settings = read_settings(os.environ)
        return asyncio.run(Node(settings, keeper, tell).run())
    except SettingsError as exc:
        return told_failure(exc, 2)
    except (StateError, CannotListen, StartFailed, ConnectionError) as exc:
        return told_failure(exc, 1)


class Node:
    """Everything that the work of a node started, and how to end it."""

    def __init__(self, settings: Settings, keeper: int, tell: int) -> None:
        self._settings = settings
        self._keeper, self._tell = keeper, tell
        self._stop = asyncio.Event()
        self._cleanup = ExitStack()
        self._gateway: Any = None
        self._router: Any = None
        self._router_settings: RouterSettings | None = None
        self._router_answers = True
        self._supervisor: Any = None
        self._make_supervisor: Callable[[], Awaitable[str]]  # these two once they were made
        self._make_gateway: Callable[[], Awaitable[str]]
        self._made_again_at = -inf
        self._keys: KeyHolderProcess | None = None

    async def run(self) -> int:
        """Start, wait for a signal, end."""
        try:
            await self._start()
            for name in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(name, self._stop.set)
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
            await self._watch()
            await self._drain()
        finally:
            if self._keys is not None:
                await self._keys.stop()
            self._cleanup.close()
        return 0

    async def _start(self) -> None:
        settings = self._settings
        for each in unused_variables(os.environ):
            tell_step(f"warning: {each}")
        # Before anything starts: others may have made these, and speak to agents in our place.
        if settings.ray_address is None:
            private_folder(ray_place(Path(settings.data_dir)))
        if settings.runs_key_holder:
            private_folder(settings.key_socket.parent)
        read_service_key(settings)
        models.make_token(settings)
        tools = await tools_of_file(settings)
        dsn = await self._database()
        self._keys = KeyHolderProcess(settings, dsn)
        await self._keys.tend()
        service, found = None, ""
        if settings.llm_aliases is None and settings.llm_url is not None:
            service, found = await models.found_service(settings)
            tell_step(f"model service {found}")
        self._router_settings = models.router_settings(
            settings, __version__, self._rehearsal(), service
        )
        try:
            self._start_ray()
        except Exception as exc:  # Ray raises bare ones, over many lines
            first = str(exc).strip().partition("\n")[0]
            raise StartFailed("Ray", first or type(exc).__name__) from exc
        for name, pid in ray_parts(self._here).items():
            self._say(f"{name} {pid}")
        if settings.ray_address is None:  # another Ray is not ours to start again
            RayGuard(RayLife(ray_places()), lambda why: self._say(f"{LOST}{why}")).start()
        await self._start_router()
        if service is not None and service.model and settings.llm_try:
            await self._try_model(service.model, found)
        with contextlib.suppress(RouterSilent):
            told = decoded(await ask_router(settings, "GET", "/v1/aliases"))
            if service is not None and service.model:
                tell_step(context_in_words(told, f"{service.name}/{service.model}"))
            for each in model_warnings(told, settings, has_money_limit=False):
                tell_step(f"warning: {each}")
        agent_settings = msgspec.structs.replace(
            settings.agent,
            dsn=dsn,
            password_file=str(Path(settings.secrets_dir, settings.agent.role)),
            model_url=models.router_url(settings),
            model=models.model_asked_for(settings),
            model_key_file=str(models.token_file(settings)),
            tools_file=tools_path(settings),
            tools=tools,
            key_socket=str(settings.key_socket),
            key_address=settings.key_address,
            slots=Slots(str(Path(settings.data_dir, "slots")), settings.agent_slots),
        )
        self._make_supervisor = partial(self._start_supervisor, agent_settings)
        name = await self._make_supervisor()
        self._make_gateway = partial(self._start_gateway, dsn, name)
        url = await self._make_gateway()
        write_node(settings.data_dir, self._keeper, url, __version__, settings.operators_url)
        self._say(READY)
        tell_step(f"ready at {url}")

    def _say(self, line: str) -> None:
        """Tell the keeper."""
        os.write(self._tell, f"{line}\n".encode())

    async def _database(self) -> str:
        """Start and migrate the database; its address, without a login."""
        settings = self._settings
        secrets_dir = Path(settings.secrets_dir)
        if settings.database_url is not None:
            tell_step("migrating the database")
            password = None
            if settings.database_password_file is not None:
                password = read_secret(
                    "MANA_DATABASE_PASSWORD_FILE", Path(settings.database_password_file)
                )
            await migrate(
                settings.database_url,
                secrets_dir=secrets_dir,
                password=password,
                progress=tell_step,
            )
            return _without_login(settings.database_url)
        tell_step("starting Postgres")
        root = Path(settings.data_dir)
        server = await asyncio.to_thread(embedded.start, root, progress=tell_step)
        tell_step("migrating the database")
        await migrate(
            server.dsn("mana_sync"),
            secrets_dir=secrets_dir,
            password=embedded.read_password(server.secret("mana_sync")),
            progress=tell_step,
        )
        return _without_login(server.dsn("mana_sync", tcp=True))

    def _rehearsal(self) -> tuple[str, Path] | None:
        """The rehearsal model on a port of its own, where no other is configured: URL and key."""
        settings = self._settings
        if not models.wants_rehearsal(settings):
            return None
        key_file = Path(settings.secrets_dir, "rehearsal_key")
        latency_s = settings.rehearsal_latency_ms / 1000
        server = RehearsalServer(kept_secret(key_file), latency_s=latency_s)
        server.start()
        self._cleanup.callback(server.stop)
        plans = "the built-in rehearsal model"
        if not models.is_rehearsing(settings):
            plans = f"{models.model_in_words(settings)}, which was connected,"
        tell_step(f"no MANA_LLM_URL or MANA_LLM_ALIASES is set: {plans} plans")
        return server.url, key_file

    def _start_ray(self) -> None:
        settings = self._settings
        tell_step(
            "starting Ray"
            if settings.ray_address is None
            else f"joining Ray at {settings.ray_address}"
        )
        # Many cold starts at once on few cores take longer than Ray's usual patience.
        os.environ.setdefault("RAY_worker_register_timeout_seconds", "120")
        os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")  # else the raylet ends
        # Else Ray's monitor tells whoever asks, on a port of its own, what Ray is doing.
        os.environ.setdefault("AUTOSCALER_METRIC_PORT", "-1")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ[LOG_FOLDER] = str(log_file(settings.data_dir).parent)
        common: dict[str, Any] = {
            "namespace": NAMESPACE,
            "log_to_driver": False,
            "configure_logging": True,
            "logging_level": "ERROR",
        }
        if settings.ray_address is None:
            # Ray listens on every interface unless it holds this machine for one without clusters.
            # It read the variable when it was imported, which has happened; its children read it.
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
            constants: Any = importlib.import_module("ray._private.ray_constants")
            constants.ENABLE_RAY_CLUSTER = False
            if settings.fork_server and ray.__version__ == fork_server.TRIED:
                folder = Path(settings.data_dir, "forks")
                os.environ |= fork_server.variables(folder, os.environ.get("PYTHONPATH"))
            # Read in our own process and in all that Ray starts, whatever else was meant for Ray.
            for variable in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
                os.environ.pop(variable, None)
            os.environ["RAY_AUTH_TOKEN_PATH"] = str(ray_token_file(settings))
            ray.init(
                address="local",  # never somebody else's that happens to run here
                _temp_dir=str(ray_folder(Path(settings.data_dir))),
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                num_cpus=max(1, os.cpu_count() or 1),
                resources=OFFERED,
                **common,
            )
        else:
            ray.init(address=settings.ray_address, **common)
            nodes: list[dict[str, Any]] = cast("Any", ray).nodes()
            (here,) = [one["Resources"] for one in nodes if one["NodeID"] == self._here]
            if not here.keys() >= OFFERED.keys():
                offer = "ray start --resources='{\"mana\": 1}'"
                reason = f"this machine's does not offer the resource mana to agents: {offer}"
                raise StartFailed("Ray", reason)
        self._cleanup.callback(cast("Any", ray).shutdown)

    @property
    def _here(self) -> str:
        """The Ray node that we are on."""
        return cast("Any", ray).get_runtime_context().get_node_id()

    def _on_here(self) -> dict[str, Any]:
        """Holds an actor on the machine that we are on, also when it restarts."""
        strategies: Any = importlib.import_module("ray.util.scheduling_strategies")
        held = strategies.NodeAffinitySchedulingStrategy(node_id=self._here, soft=False)
        return {"scheduling_strategy": held}

    async def _start_supervisor(self, agent_settings: AgentSettings) -> str:
        settings = self._settings
        tell_step("starting the supervisor")
        name = f"supervisor-{release()}-{settings.shard}"
        supervisor = _service(SupervisorActor, name, max_concurrency=1000, resources=ASKED)
        self._supervisor = supervisor.remote(
            name, release(), settings.to_wire(), msgspec.json.encode(agent_settings)
        )
        await self._supervisor.pid.remote()
        # Of other releases; the new epoch made them stand down.
        _retire("supervisor-", f"-{settings.shard}", keep=name)
        return name

    async def _start_router(self) -> None:
        """Start the model router, bound to this machine: others here find it on loopback."""
        tell_step("starting the model router")
        assert self._router_settings is not None
        wire = self._router_settings.to_wire()
        # A router that was left by a node with the same settings serves as well; others do not.
        prefix = f"llm-{socket.gethostname()}-{self._router_settings.port}-"
        digest = hashlib.sha256(wire + release().encode()).hexdigest()[:12]
        router = _service(LlmRouterActor, prefix + digest, max_concurrency=8, **self._on_here())
        left = _retire(prefix, keep=prefix + digest)
        await _until_gone(left, _LOOPBACK, self._router_settings.port)
        self._router = router.remote(wire)
        _, problem = await self._router.address.remote()
        if problem:
            raise StartFailed("the model router", problem)

    async def _try_model(self, named: str, found: str) -> None:
        """Ask the one service's model a tiny question, and say what came of it.

        Raises StartFailed where it has no model of this name.
        """
        tell_step("trying the model")
        model = models.model_asked_for(self._settings)
        try:
            trial = await tried(self._settings, model, _TRY_S)
        except RouterSilent:
            tell_step(f"no answer within {_TRY_S:.0f} s; mana llm test {model} asks again")
            return
        if "missing_model" in trial.error:
            raise StartFailed("the model", f"{named} is not there ({found}); see MANA_LLM_MODEL")
        if not trial.ok:
            tell_step(f"it did not answer ({trial.error}); mana llm test {model} asks again")
            return
        tools = "calls tools" if trial.calls_tools else "did not call the tool it was told to call"
        tell_step(f"{trial.resolved} answers and {tools}")

    def _reload(self) -> None:
        """Have the router read its alias file again; it logs what came of it."""
        self._router.reload.remote()

    async def _see_to_router(self) -> None:
        """Ray restarts the router's process; where even Ray gave it up, it is made anew."""
        assert self._router_settings is not None
        try:
            url, within_s = self._router_settings.url, _WATCH_EVERY_S
            async with httpx2.AsyncClient(verify=trust_for(url), trust_env=False) as http:
                told = await bounded_answer(http, "GET", f"{url}/health", within_s=within_s)
                answers = told.is_success
        except AnswerUnreadable:
            answers = False
        if answers != self._router_answers:
            tell_step(f"the model router {'answers again' if answers else 'does not answer'}")
        elif not answers:
            with contextlib.suppress(Exception):  # Ray's are many; tried again at the next look
                await asyncio.wait_for(self._start_router(), _WATCH_EVERY_S)
        self._router_answers = answers

    async def _see_to_actors(self) -> None:
        """Ray restarts the processes of supervisor and gateway; one it gave up is made anew."""
        now = asyncio.get_running_loop().time()
        if now - self._made_again_at < _MADE_AGAIN_S:
            return
        for name, actor, make in (
            ("supervisor", self._supervisor, self._make_supervisor),
            ("gateway", self._gateway, self._make_gateway),
        ):
            try:
                await asyncio.wait_for(actor.pid.remote(), _WATCH_EVERY_S)
            except ActorDiedError:
                self._made_again_at = now
                tell_step(f"Ray gave the {name} up")
                try:
                    await asyncio.wait_for(make(), _MAKE_S)
                except Exception as exc:  # noqa: BLE001 - Ray's are many; tried again
                    log.warning("actor_not_made name=%s error=%s", name, type(exc).__name__)
            except (RayError, TimeoutError):  # it restarts, or is busy
                pass

    async def _start_gateway(self, dsn: str, supervisor: str) -> str:
        settings = self._settings
        tell_step("starting the gateway")
        name = f"gateway-{socket.gethostname()}-{settings.port}"
        left = _retire(name)  # of a node that was killed, in a Ray that outlived it
        await _until_gone(left, settings.host, settings.port)
        gateway = _service(GatewayActor, name, max_concurrency=8, **self._on_here())
        self._gateway = gateway.remote(settings.to_wire(), dsn, supervisor, __version__)
        url, problem = await self._gateway.address.remote()
        if problem:
            raise StartFailed("the gateway", problem)
        return str(url)

    async def _watch(self) -> None:
        """Until a signal: see that our Postgres is there, and start it again when it is not."""
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _WATCH_EVERY_S)
            if self._settings.is_embedded and not self._stop.is_set():
                root = Path(self._settings.data_dir)
                try:
                    if await asyncio.to_thread(embedded.status, root) is None:
                        tell_step("Postgres is gone: starting it again")
                        await asyncio.to_thread(embedded.start, root, progress=tell_step)
                except StateError as exc:
                    sys.stderr.write(f"error: {exc}\n")  # tried again at the next look
            if not self._stop.is_set():
                await self._see_to_router()
            if not self._stop.is_set():
                await self._see_to_actors()
            if not self._stop.is_set() and self._keys is not None:
                await self._keys.tend()

    async def _drain(self) -> None:
        tell_step("draining")
        handle = SupervisorHandle(f"supervisor-{release()}-{self._settings.shard}")
        try:
            left = await handle.drain(DRAIN_S)
            tell_step(f"drained, {left} runs left to resume" if left else "drained")
        except ProcessGone as exc:
            tell_step(f"not drained: {exc}")
        for actor in (self._gateway, self._supervisor, self._router):
            with contextlib.suppress(Exception):  # ending anyway; Ray may have ended it first
                ray.kill(actor)


def _retire(prefix: str, suffix: str = "", *, keep: str = "") -> list[str]:
    """End the named actors of ours that are called so, but for one; their names."""
    ended: list[str] = []
    entries = cast("list[dict[str, str]]", ray.util.list_named_actors(all_namespaces=True))
    for name in (entry["name"] for entry in entries if entry["namespace"] == NAMESPACE):
        if name.startswith(prefix) and name.endswith(suffix) and name != keep:
            with contextlib.suppress(ValueError):  # ended since it was listed
                ray.kill(cast("Any", ray.get_actor(name, namespace=NAMESPACE)))
                ended.append(name)
    return ended


async def _until_gone(names: list[str], host: str, port: int) -> None:
    """Return once Ray forgot these actors and nobody has their port, or it is somebody else's."""
    if names:
        tell_step(f"ended what an earlier node left in Ray: {', '.join(names)}")
    give_up = asyncio.get_running_loop().time() + _GONE_S
    while names and asyncio.get_running_loop().time() < give_up:
        entries = cast("list[dict[str, str]]", ray.util.list_named_actors(all_namespaces=True))
        known = {entry["name"] for entry in entries}
        with contextlib.suppress(CannotListen):
            bound_socket(host, port).close()
            if known.isdisjoint(names):
                return
        await asyncio.sleep(_GONE_POLL_S)


def _service(actor_class: type, name: str, **more: Any) -> Any:
    """Makes the one actor of this name, which outlives us and is restarted for ever."""
    return cast("Any", ray.remote(actor_class)).options(
        name=name,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        num_cpus=0,
        **more,
    )


def _without_login(url: str) -> str:
    """A database address with neither user nor password: each role adds its own."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


if __name__ == "__main__":
    sys.exit(main())
