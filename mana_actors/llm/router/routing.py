"""Routing a request along its chain until somebody serves it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Generic, TypeVar

import msgspec

from mana_actors.errors import ProviderBusy, ProviderError, ProviderRefused
from mana_actors.json_values import JsonObject, as_object, objects_in
from mana_actors.llm.provider import AliasFacts, Exposure
from mana_actors.llm.router.aliases.needs import Needs, needs_of
from mana_actors.llm.router.aliases.registry import Registry, UnknownAlias, is_within
from mana_actors.llm.router.chain.attempts import NobodyObserves, Observer, Trail
from mana_actors.llm.router.chain.failures import Verdict, judged
from mana_actors.llm.router.chain.health import BACKOFF_S, THRESHOLD, Health, ProviderHealth
from mana_actors.llm.router.contract import Answered, Attempt, Streamed, Target, Upstream
from mana_actors.llm.router.turns import MAX_CONCURRENT, Line

PROBE_INTERVAL_S = 30.0
PROBE_TIMEOUT_S = 3.0
MODELS_TIMEOUT_S = 10.0

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class _Times(msgspec.Struct, frozen=True):
    """`share_s` until the answer, or the first chunk of a stream, which may go on for `left_s`."""

    share_s: float
    left_s: float

    def after(self, passed_s: float) -> "_Times":
        return _Times(max(self.share_s - passed_s, 0.0), max(self.left_s - passed_s, 0.0))


class _Call(msgspec.Struct, frozen=True):
    """One call of an entry; `held` is the turn at its provider, which a stream takes over."""

    upstream: Upstream
    model: str
    times: _Times
    held: contextlib.AsyncExitStack


class _Served(msgspec.Struct, Generic[_T], frozen=True):
    target: Target
    exposure: Exposure
    answer: _T
    attempts: tuple[Attempt, ...]


class _Table(msgspec.Struct, frozen=True):
    """The registry and the lines to its providers, replaced as one."""

    registry: Registry
    lines: Mapping[str, Line]

    def configured(self) -> frozenset[str]:
        return frozenset(name for name, line in self.lines.items() if line.is_configured)

    def has(self, target: Target) -> bool:
        line = self.lines.get(target.provider)
        return line is not None and line.is_configured

    def knows(self, target: Target) -> bool:
        return target.provider in self.registry.providers or self.has(target)

    def reach(self, target: Target) -> Exposure:
        """How far a prompt to `target` goes; of who is not described, the worst is assumed."""
        return self.registry.exposure(target) or "any"

    def most_s(self, target: Target, share_s: float) -> float:
        provider = self.registry.providers.get(target.provider)
        return min(share_s, provider.deadline_s) if provider else share_s


class _Way(msgspec.Struct, frozen=True):
    """One request on its way: the table it began with, what it asks, and until when."""

    table: _Table
    needs: Needs
    exposure: Exposure
    end: float
    trail: Trail


class Router:
    """Every request is served by the first entry of its chain that may, can and does.

    `clock` gives unix seconds. Requests that are under way when `replace` is called go on as they
    began. All methods raise ProviderError and UnknownAlias, nothing else.
    """

    def __init__(
        self,
        registry: Registry,
        upstreams: Mapping[str, Upstream],
        *,
        clock: Callable[[], float] = time.time,
        threshold: int = THRESHOLD,
        backoff_s: float = BACKOFF_S,
        observer: Observer | None = None,
    ) -> None:
        self._clock = clock
        self._observer: Observer = observer or NobodyObserves()
        self._health = Health(threshold, backoff_s, self._observer.provider_healthy)
        self._table = _Table(registry, {n: _line(registry, n, u) for n, u in upstreams.items()})
        self._retiring: set[asyncio.Task[None]] = set()
        for name in self._table.configured():
            self._observer.provider_healthy(name, True)

    @property
    def registry(self) -> Registry:
        """The registry in force."""
        return self._table.registry

    async def complete(
        self, body: JsonObject, *, exposure: Exposure, deadline_s: float
    ) -> Answered:
        """The whole answer within `deadline_s` seconds, all entries together.

        An entry gets half of the time that is left as long as another one could serve after it,
        so that one that hangs cannot use up the time of all.
        """

        async def call(one: _Call) -> JsonObject:
            return await one.upstream.complete(body, one.model, deadline_s=one.times.share_s)

        found = await self._walk(body, needs_of(body), exposure, deadline_s, call)
        return Answered(found.target, found.exposure, found.answer, found.attempts)

    async def stream(self, body: JsonObject, *, exposure: Exposure, deadline_s: float) -> Streamed:
        """A stream that has begun to say something; what fails later is passed on, never spliced.

        The caller closes `chunks`, which gives the turn at the provider back.
        """

        async def call(one: _Call) -> AsyncGenerator[JsonObject]:
            return await _opened(one, body)

        found = await self._walk(body, needs_of(body), exposure, deadline_s, call)
        return Streamed(found.target, found.exposure, found.answer, found.attempts)

    async def embed(self, body: JsonObject, *, exposure: Exposure, deadline_s: float) -> Answered:
        """The answer to an embeddings request, by the first entry only.

        Vectors of two models do not compare, so there is neither fallback nor a default.
        """
        if not body.get("model"):
            raise UnknownAlias("")
        target = self.registry.chain(body["model"])[0]
        if not self._table.has(target):
            raise ProviderRefused("unknown", 400, None, "unconfigured", target.provider)

        async def call(one: _Call) -> JsonObject:
            return await one.upstream.embed(body, one.model, deadline_s=one.times.share_s)

        only = body | {"model": target.name}
        found = await self._walk(only, Needs(), exposure, deadline_s, call)
        return Answered(found.target, found.exposure, found.answer, found.attempts)

    async def models(self) -> list[Target]:
        """The models that the configured providers name; who fails is left out."""
        lines = self._table.lines
        names = sorted(self._table.configured())
        found = await asyncio.gather(*(_models(lines[name].upstream) for name in names))
        pairs = zip(names, found, strict=True)
        return [Target(name, model) for name, models in pairs for model in sorted(models)]

    def health(self) -> dict[str, ProviderHealth]:
        """The health of every configured provider; copies."""
        configured = self._table.configured()
        found = self._health.snapshot(configured)
        return {name: health for name, health in found.items() if name in configured}

    def facts(self, model: object, exposure: Exposure) -> AliasFacts:
        """What `model` costs at most within `exposure`; raises UnknownAlias."""
        return self._table.registry.facts(model, exposure, self._table.configured())

    def replace(self, registry: Registry, upstreams: Mapping[str, Upstream]) -> None:
        """Use another table from now on.

        Providers whose entry stays as it was keep their upstream, turns and health; the upstreams
        of the others are closed when their last call is over.
        """
        old = self._table
        lines = {n: _kept(old, registry, n, u) for n, u in upstreams.items()}
        self._table = _Table(registry, lines)
        for name, line in old.lines.items():
            if lines.get(name) is not line:
                self._health.forget(name)
                self._retire(line)
        for name in self._table.configured() - old.configured():
            self._observer.provider_healthy(name, True)

    async def probe_loop(
        self, interval_s: float = PROBE_INTERVAL_S, timeout_s: float = PROBE_TIMEOUT_S
    ) -> None:
        """Ask every configured provider whether it is there, at once and then each interval."""
        if interval_s <= 0 or timeout_s <= 0:
            raise ValueError("interval_s and timeout_s need to be above 0")
        while True:
            await self.probe_once(timeout_s)
            await asyncio.sleep(interval_s)

    async def probe_once(self, timeout_s: float = PROBE_TIMEOUT_S) -> None:
        """Ask every configured provider at the same time; none can disturb another."""
        lines = self._table.lines
        names = sorted(self._table.configured())
        found = await asyncio.gather(*(_problem(lines[n].upstream, timeout_s) for n in names))
        for name, problem in zip(names, found, strict=True):
            if self._table.lines.get(name) is lines[name]:  # else a reload came in between
                self._health.probed(name, problem, self._clock())

    async def aclose(self) -> None:
        """Close every upstream; calls that are under way fail."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await asyncio.gather(*(line.upstream.aclose() for line in self._table.lines.values()))

    async def _walk(
        self,
        body: JsonObject,
        needs: Needs,
        exposure: Exposure,
        deadline_s: float,
        call: Callable[[_Call], Awaitable[_T]],
    ) -> _Served[_T]:
        """Go along the chain of `body["model"]` until `call` succeeds."""
        way = _Way(self._table, needs, exposure, _now() + deadline_s, Trail(self._observer))
        chain = way.table.registry.chain(body.get("model"))
        for place, target in enumerate(chain):
            try:
                self._check(way, target)
                answer = await self._at(target, way, self._times(way, chain[place:]), call)
            except _PassedBy as passed:
                way.trail.passed_by(target, passed.reason)
                continue
            return self._served(body, target, way, answer)
        raise way.trail.ended(self._wait_s(way.trail))

    def _served(self, body: JsonObject, target: Target, way: _Way, answer: _T) -> _Served[_T]:
        alias = way.table.registry.alias(body.get("model"))
        if alias:
            self._observer.resolved(alias, target)
        return _Served(target, way.table.reach(target), answer, way.trail.attempts)

    def _check(self, way: _Way, target: Target) -> None:
        """Raise _PassedBy where `target` may not or cannot serve now."""
        obstacle = self._obstacle(way, target)
        if obstacle is not None:
            raise _PassedBy(obstacle)

    def _obstacle(self, way: _Way, target: Target) -> str | None:
        table = way.table
        if table.knows(target) and not is_within(table.reach(target), way.exposure):
            return "exposure"
        if not table.has(target):
            return "unconfigured"
        if not self._health.is_available(target, self._clock()):
            return "cache-unhealthy"
        return None if way.needs.are_met(table.registry, target) else "capability"

    def _times(self, way: _Way, rest: tuple[Target, ...]) -> _Times:
        """The time for the first of `rest`: half of what is left while another could serve."""
        left_s = max(way.end - _now(), 0.0)
        others = any(self._obstacle(way, later) is None for later in rest[1:])
        return _Times(way.table.most_s(rest[0], left_s / 2 if others else left_s), left_s)

    async def _at(
        self, target: Target, way: _Way, times: _Times, call: Callable[[_Call], Awaitable[_T]]
    ) -> _T:
        """Wait for a turn at `target`'s provider, then call it; raises _PassedBy."""
        began, line = _now(), way.table.lines[target.provider]
        async with contextlib.AsyncExitStack() as held:
            try:
                async with asyncio.timeout(times.share_s):
                    await held.enter_async_context(line.held())
            except TimeoutError:
                raise _PassedBy("busy") from None
            admission = self._health.admit(target, self._clock())
            if admission is None:
                raise _PassedBy("cache-unhealthy")
            try:
                way.trail.called(target)
                left = times.after(_now() - began)
                one = _Call(line.upstream, target.model, left, held)
                # Who got less than half of its share, others being before it, is not slow.
                return await self._tried(
                    target, call(one), is_fair=left.share_s > times.share_s / 2
                )
            finally:
                self._health.release(admission)

    async def _tried(self, target: Target, answer: Awaitable[_T], *, is_fair: bool) -> _T:
        """The answer, and what it says about `target`'s health; raises _PassedBy."""
        try:
            found = await answer
        except ProviderError as error:
            verdict = judged(error)
            self._blame(target, verdict, is_fair=is_fair)
            if not verdict.next_entry:
                raise
            raise _PassedBy(verdict.reason) from None
        self._health.succeeded(target, self._clock())
        return found

    def _blame(self, target: Target, verdict: Verdict, *, is_fair: bool) -> None:
        trouble = verdict.trouble
        if trouble is None or (trouble.reason == "timeout" and not is_fair):
            return
        _log.warning("provider_failed provider=%s reason=%s", target.provider, trouble.reason)
        self._health.failed(target, trouble, self._clock())

    def _wait_s(self, trail: Trail) -> float | None:
        """Seconds until an entry that could serve is called again."""
        may_serve = (
            attempt.target
            for attempt in trail.attempts
            if attempt.reason not in ("exposure", "unconfigured", "capability")
        )
        return self._health.wait_s(may_serve, self._clock())

    def _retire(self, line: Line) -> None:
        task = asyncio.get_running_loop().create_task(line.retire())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)


class _PassedBy(Exception):
    """An entry did not serve, and another one may."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _now() -> float:
    return asyncio.get_running_loop().time()


def _line(registry: Registry, name: str, upstream: Upstream) -> Line:
    entry = registry.providers.get(name)
    return Line(upstream, entry.max_concurrent if entry else MAX_CONCURRENT)


def _kept(old: _Table, registry: Registry, name: str, upstream: Upstream) -> Line:
    """The old line if its provider's entry is the same as before, else a new one."""
    line = old.lines.get(name)
    before, after = old.registry.providers.get(name), registry.providers.get(name)
    if line is None or before != after or (after is None and line.upstream is not upstream):
        return _line(registry, name, upstream)
    return line


async def _opened(call: _Call, body: JsonObject) -> AsyncGenerator[JsonObject]:
    """The stream of `call`, its first chunk fetched; closing it gives the turn back."""
    chunks = call.upstream.stream(body, call.model, deadline_s=call.times.left_s)
    try:
        async with asyncio.timeout(call.times.share_s):
            first = await _beginning(chunks)
    except TimeoutError:
        await chunks.aclose()
        raise ProviderBusy("timeout") from None
    except BaseException:
        await chunks.aclose()
        raise
    opened = _continued(first, chunks, call.held.pop_all())
    await anext(opened)  # from here on its `finally` runs, read or not
    return opened


async def _beginning(chunks: AsyncGenerator[JsonObject]) -> list[JsonObject]:
    """The chunks up to the first that says something; a role alone commits nobody."""
    found: list[JsonObject] = []
    async for chunk in chunks:
        found.append(chunk)
        if not _is_prelude(chunk):
            break
    return found


def _is_prelude(chunk: JsonObject) -> bool:
    choices = objects_in(chunk.get("choices"))
    return bool(choices) and all(_says_nothing(choice) for choice in choices)


def _says_nothing(choice: JsonObject) -> bool:
    delta = as_object(choice.get("delta")) or {}
    return not choice.get("finish_reason") and not any(delta[key] for key in delta if key != "role")


async def _continued(
    first: list[JsonObject],
    chunks: AsyncGenerator[JsonObject],
    held: contextlib.AsyncExitStack,
) -> AsyncGenerator[JsonObject]:
    async with held, contextlib.aclosing(chunks):
        yield {}  # for `_opened`
        for chunk in first:
            yield chunk
        async for chunk in chunks:
            yield chunk


async def _models(upstream: Upstream) -> list[str]:
    try:
        async with asyncio.timeout(MODELS_TIMEOUT_S):
            return await upstream.models()
    except (ProviderError, TimeoutError):
        return []


async def _problem(upstream: Upstream, timeout_s: float) -> str | None:
    """What a probe found, as a code, or None."""
    try:
        async with asyncio.timeout(timeout_s):
            return None if await upstream.probe() else "probe_failed"
    except TimeoutError:
        return "probe_timeout"
    except Exception as exc:  # noqa: BLE001 - one bad probe must not end the others
        _log.warning("probe_failed error=%s", type(exc).__name__)
        return "probe_failed"
