"""Routing a request along its chain until somebody serves it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Generic, TypeVar

import msgspec

from mana_actors.errors import ProviderBusy, ProviderError, ProviderRefused
from mana_actors.json_values import JsonObject
from mana_actors.llm.failures.wasted import Wasted
from mana_actors.llm.provider import AliasFacts, Exposure
from mana_actors.llm.router.aliases.knowledge import Knowledge
from mana_actors.llm.router.aliases.needs import Lacking, Needs, needs_of
from mana_actors.llm.router.aliases.registry import Price, Registry, Target, UnknownAlias, is_within
from mana_actors.llm.router.chain.circuits import BACKOFF_S, THRESHOLD, Circuits, ProviderHealth
from mana_actors.llm.router.chain.failures import consequence_of
from mana_actors.llm.router.chain.trail import NobodyObserves, Observer, PassedBy, Trail
from mana_actors.llm.router.entries.abilities import NOTHING, Abilities, Profile
from mana_actors.llm.router.entries.fitting import fitted
from mana_actors.llm.router.entries.lessons import lesson_of, with_lesson
from mana_actors.llm.router.line import MAX_CONCURRENT, Line, Upstream
from mana_actors.llm.router.wire.events import is_prelude
from mana_actors.llm.router.wire.own_turns import own_turns

PROBE_INTERVAL_S = 30.0
PROBE_TIMEOUT_S = 3.0
ASK_AGAIN_S = 300.0
MOST_LESSONS = 4
"""So often an entry whose refusals say what it lacks is asked again in one request."""

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Routed(msgspec.Struct, Generic[_T], frozen=True):
    """An answer, who gave it, how far the prompt went for it, and who was passed by before.

    `wasted` is what those spent all the same; `carried_lost` turns were sent without what they
    carry, since another entry said them.
    A stream's first chunk has arrived (or it ended empty), so that its provider is settled.
    """

    target: Target
    exposure: Exposure
    answer: _T
    attempts: tuple[PassedBy, ...] = ()
    wasted: Wasted = Wasted()
    carried_lost: int = 0


class _Call(msgspec.Struct, frozen=True):
    """One call of an entry; `body` is the request as the entry takes it.

    It has `share_s` seconds until the answer, or until the first chunk of a stream, which may go on
    for `left_s`. `held` is the turn at the provider; a stream takes it over.
    """

    upstream: Upstream
    body: JsonObject
    model: str
    share_s: float
    left_s: float
    held: contextlib.AsyncExitStack


class _Table(msgspec.Struct, frozen=True):
    """What is known of entries and the lines to their providers, replaced as one."""

    knowledge: Knowledge
    lines: Mapping[str, Line]

    @property
    def registry(self) -> Registry:
        return self.knowledge.registry

    def configured(self) -> frozenset[str]:
        return frozenset(name for name, line in self.lines.items() if line.is_configured)

    def has(self, target: Target) -> bool:
        line = self.lines.get(target.provider)
        return line is not None and line.is_configured

    def reach(self, target: Target) -> Exposure:
        """How far a prompt to `target` travels; anywhere, if its provider is not described."""
        return self.registry.exposure(target) or "any"


class _Way(msgspec.Struct, frozen=True):
    """One request on its way: the table it began with, what it asks, and what happened so far."""

    table: _Table
    body: JsonObject
    needs: Needs
    exposure: Exposure
    trail: Trail
    said_by: Mapping[int, str] = {}


class _NextEntry(Exception):
    """An entry did not serve, and another one may."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


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
        self._circuits = Circuits(threshold, backoff_s, self._observer.provider_healthy)
        lines = {name: _line(registry, name, each) for name, each in upstreams.items()}
        self._table = _Table(Knowledge(registry, clock), lines)
        self._replaced = asyncio.Event()
        self._retiring: set[asyncio.Task[None]] = set()
        for name in self._table.configured():
            self._observer.provider_healthy(name, True)

    @property
    def registry(self) -> Registry:
        """The registry in force."""
        return self._table.registry

    async def complete(
        self,
        body: JsonObject,
        *,
        exposure: Exposure,
        deadline_s: float,
        said_by: Mapping[int, str] = {},
    ) -> Routed[JsonObject]:
        """The whole answer within `deadline_s` seconds, all entries together.

        `said_by` names the entry that said the message at a place. An entry gets half of the time
        that is left as long as another one could serve after it, so that one that hangs cannot use
        up the time of all.
        """

        async def call(one: _Call) -> JsonObject:
            return await one.upstream.complete(one.body, one.model, deadline_s=one.share_s)

        return await self._walk(body, needs_of(body), exposure, deadline_s, call, said_by=said_by)

    async def stream(
        self,
        body: JsonObject,
        *,
        exposure: Exposure,
        deadline_s: float,
        said_by: Mapping[int, str] = {},
    ) -> Routed[AsyncGenerator[JsonObject]]:
        """A stream that has begun to say something; what fails later is passed on, never spliced.

        The caller closes it, which gives the turn at the provider back.
        """

        async def call(one: _Call) -> AsyncGenerator[JsonObject]:
            chunks = one.upstream.stream(one.body, one.model, deadline_s=one.left_s)
            beginning: list[JsonObject] = []
            try:
                async with asyncio.timeout(one.share_s):
                    async for chunk in chunks:
                        beginning.append(chunk)
                        if not is_prelude(chunk):  # a role alone commits nobody
                            break
            except TimeoutError:
                await chunks.aclose()
                raise ProviderBusy("timeout") from None
            except BaseException:
                await chunks.aclose()
                raise
            opened = _opened(beginning, chunks, one.held.pop_all())
            await anext(opened)  # from here on its `finally` runs, read or not
            return opened

        body = body | {"stream_options": {"include_usage": True}}
        return await self._walk(body, needs_of(body), exposure, deadline_s, call, said_by=said_by)

    async def embed(
        self, body: JsonObject, *, exposure: Exposure, deadline_s: float
    ) -> Routed[JsonObject]:
        """The answer to an embeddings request, by the first entry only.

        Vectors of two models do not compare, so there is neither fallback nor a default.
        """
        if not body.get("model"):
            raise UnknownAlias("")
        target = self.registry.chain(body["model"])[0]
        if not self._table.has(target):
            raise ProviderRefused("unknown", 400, None, "unconfigured", target.provider)

        async def call(one: _Call) -> JsonObject:
            return await one.upstream.embed(one.body, one.model, deadline_s=one.share_s)

        return await self._walk(body | {"model": target.name}, Needs(), exposure, deadline_s, call)

    async def _walk(
        self,
        body: JsonObject,
        needs: Needs,
        exposure: Exposure,
        deadline_s: float,
        call: Callable[[_Call], Awaitable[_T]],
        said_by: Mapping[int, str] = {},
    ) -> Routed[_T]:
        """Go along the chain of `body["model"]` until `call` succeeds."""
        way = _Way(self._table, body, needs, exposure, Trail(self._observer), said_by=said_by)
        registry, end = way.table.registry, _now() + deadline_s
        chain = registry.chain(body.get("model"))
        # Whose refusal alone says that it cannot comes last: whoever wrote it may have been wrong.
        knowledge, doubtful = way.table.knowledge, list[Target]()
        for target in chain:
            lacking = self._lacking(way, target, knowledge.of(target).abilities)
            if knowledge.is_doubtful(target, lacking):
                doubtful.append(target)
        sure = [target for target in chain if target not in doubtful]
        for place, target in enumerate((*sure, *doubtful)):
            obstacle = self._obstacle(way, target)
            if obstacle is not None and not (obstacle == "capability" and target in doubtful):
                way.trail.passed_by(target, obstacle)
                continue
            left_s = share_s = max(end - _now(), 0.0)
            if any(self._obstacle(way, later) is None for later in sure[place + 1 :]):
                share_s = left_s / 2
            if target.provider in registry.providers:
                share_s = min(share_s, registry.providers[target.provider].deadline_s)
            try:
                answer, lost = await self._called(way, target, share_s, left_s, call)
            except _NextEntry as failed:
                way.trail.passed_by(target, failed.reason)
                continue
            if target in doubtful:
                way.table.knowledge.forget(target, "tools", "vision")
            if alias := registry.alias(body.get("model")):
                self._observer.resolved(alias, target)
            reach, trail = way.table.reach(target), way.trail
            return Routed(target, reach, answer, trail.attempts, trail.wasted, carried_lost=lost)
        error = way.trail.ended(self._circuits.wait_s(way.trail.callable_later, self._clock()))
        error.wasted = way.trail.wasted
        raise error

    def _obstacle(self, way: _Way, target: Target) -> str | None:
        """Why `target` may not or cannot serve now, or None."""
        table = way.table
        is_known = target.provider in table.registry.providers or table.has(target)
        if is_known and not is_within(table.reach(target), way.exposure):
            return "exposure"
        if not table.has(target):
            return "unconfigured"
        if not self._circuits.is_available(target, self._clock()):
            return "cache-unhealthy"
        lacking = self._lacking(way, target, table.knowledge.of(target).abilities)
        return None if lacking is None else "capability"

    def _lacking(self, way: _Way, target: Target, holds: Abilities) -> Lacking | None:
        return way.needs.lacking(holds, way.table.registry.model(target).bytes_per_token)

    async def _called(
        self,
        way: _Way,
        target: Target,
        share_s: float,
        left_s: float,
        call: Callable[[_Call], Awaitable[_T]],
    ) -> tuple[_T, int]:
        """Wait for a turn at `target`'s provider, then call it; raises _NextEntry.

        With the answer comes how many turns lost what they carry.
        """
        began, line = _now(), way.table.lines[target.provider]
        async with contextlib.AsyncExitStack() as held:
            try:
                async with asyncio.timeout(share_s):
                    await held.enter_async_context(line.held())
            except TimeoutError:
                raise _NextEntry("busy") from None
            waited_s = _now() - began
            rest_s = max(share_s - waited_s, 0.0)
            admission = self._circuits.admit(target, self._clock())
            if admission is None:
                raise _NextEntry("cache-unhealthy")
            try:
                way.trail.called(target)
                own = own_turns(way.body, way.said_by, target.name)
                holds = way.table.knowledge.of(target).abilities
                one = _Call(
                    upstream=line.upstream,
                    body=self._fitted(way, own.body, target, holds),
                    model=target.model,
                    share_s=rest_s,
                    left_s=max(left_s - waited_s, 0.0),
                    held=held,
                )
                answer = await self._answered(way, own.body, target, one, call)
            except ProviderError as error:
                failure = consequence_of(error)
                trouble = failure.trouble
                # A target that got less than half of its share, because others were before it, is
                # not to blame for being slow.
                if trouble and (trouble.reason != "timeout" or rest_s > share_s / 2):
                    reason = trouble.reason
                    _log.warning("provider_failed provider=%s reason=%s", target.provider, reason)
                    self._circuits.failed(target, trouble, self._clock())
                way.trail.failed(error, way.table.registry.price(target) or Price())
                if not failure.next_entry:
                    error.wasted = way.trail.wasted
                    raise
                raise _NextEntry(failure.reason) from None
            else:
                self._circuits.succeeded(target, self._clock())
                return answer, own.lost
            finally:
                self._circuits.release(admission)

    async def _answered(
        self,
        way: _Way,
        own: JsonObject,
        target: Target,
        one: _Call,
        call: Callable[[_Call], Awaitable[_T]],
    ) -> _T:
        """What `call` brings; where a refusal says what the entry lacks, asked anew without that.

        A lesson is kept when the entry then answers, or when it keeps the entry from being asked.
        """
        knowledge, began, learnt = way.table.knowledge, _now(), NOTHING
        left = MOST_LESSONS
        while True:
            try:
                answer = await call(one)
            except ProviderError as error:
                lack, holds = error.lack, knowledge.with_lesson(target, learnt).abilities
                lesson = lesson_of(lack, one.body, holds) if lack is not None else None
                if lesson is None:
                    raise
                if lesson.tools is False or lesson.vision is False or lesson.context_tokens:
                    knowledge.learn(target, lesson)
                learnt = with_lesson(learnt, lesson)
                holds = knowledge.with_lesson(target, learnt).abilities
                body = self._fitted(way, own, target, holds)
                is_lost = self._lacking(way, target, holds) is not None or body == one.body
                if is_lost or not left or error.may_have_spent or error.usage is not None:
                    raise
                left, spent_s = left - 1, _now() - began
                one = msgspec.structs.replace(
                    one,
                    body=body,
                    share_s=max(one.share_s - spent_s, 0.0),
                    left_s=max(one.left_s - spent_s, 0.0),
                )
                began = _now()
            else:
                if learnt != NOTHING:
                    knowledge.learn(target, learnt)
                    _log.info("entry_learnt provider=%s", target.provider)
                return answer

    def _fitted(self, way: _Way, own: JsonObject, target: Target, holds: Abilities) -> JsonObject:
        """A request with an entry's own turns as it takes it of which this `holds`.

        What is no chat stays as it is.
        """
        if "messages" not in own:
            return own
        per_token = way.table.registry.model(target).bytes_per_token
        return fitted(own, holds, way.needs.output_room(holds, per_token))

    # --- what is known of providers, and kept up --------------------------------------------------

    async def models(self) -> list[Target]:
        """The models that the configured providers list; a provider that fails is left out."""
        lines = self._table.lines
        names = sorted(self._table.configured())
        found = await asyncio.gather(*(lines[name].models() for name in names))
        pairs = zip(names, found, strict=True)
        return [Target(name, model) for name, models in pairs for model in sorted(models)]

    def health(self) -> dict[str, ProviderHealth]:
        """The health of every configured provider; copies."""
        configured = self._table.configured()
        found = self._circuits.snapshot(configured)
        return {name: health for name, health in found.items() if name in configured}

    def facts(self, model: object, exposure: Exposure) -> AliasFacts:
        """What `model` costs at most within `exposure`; raises UnknownAlias."""
        return self._table.knowledge.facts(model, exposure, self._table.configured())

    def profile(self, target: Target) -> Profile:
        """What holds of an entry, and who said so."""
        return self._table.knowledge.of(target)

    def replace(self, registry: Registry, upstreams: Mapping[str, Upstream]) -> None:
        """Use another table from now on.

        Providers whose entry stays as it was keep their upstream, turns and health; the upstreams
        of the others are closed when their last call is over.
        """
        old, lines = self._table, dict[str, Line]()
        for name, upstream in upstreams.items():
            line = old.lines.get(name)
            before, after = old.registry.providers.get(name), registry.providers.get(name)
            if line is None or before != after or (after is None and line.upstream is not upstream):
                line = _line(registry, name, upstream)
            lines[name] = line
        self._table = _Table(Knowledge(registry, self._clock), lines)
        self._replaced.set()
        self._replaced = asyncio.Event()
        for name, line in old.lines.items():
            if lines.get(name) is not line:
                self._circuits.forget(name)
                task = asyncio.get_running_loop().create_task(line.retire())
                self._retiring.add(task)
                task.add_done_callback(self._retiring.discard)
        for name in self._table.configured() - old.configured():
            self._observer.provider_healthy(name, True)

    async def ask_loop(self) -> None:
        """Ask services at once, when the registry is another, and now and then."""
        while True:
            replaced = self._replaced
            await self.ask_services()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ASK_AGAIN_S):
                    await replaced.wait()

    async def ask_services(self, provider: str | None = None) -> None:
        """Ask services what they say of the models of the alias file; never raises.

        A provider whose `probe_path` is null wants no questions.
        """
        table = self._table
        await asyncio.gather(
            *(
                self._ask_service(table, name)
                for name in sorted(table.configured())
                if name == (provider or name) and name in table.registry.providers
            )
        )

    async def _ask_service(self, table: _Table, name: str) -> None:
        upstream = table.lines[name].upstream
        targets = [target for target in table.registry.targets if target.provider == name]
        is_asked = table.registry.providers[name].probe_path is not None
        if not (is_asked and targets):
            return
        listing = await upstream.about([target.model for target in targets])
        for target in targets:
            if (told := listing.of(target.model)) is not None:
                table.knowledge.tell(target, told)

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
        found = await asyncio.gather(*(lines[name].problem(timeout_s) for name in names))
        for name, problem in zip(names, found, strict=True):
            if self._table.lines.get(name) is lines[name]:  # else a reload came in between
                self._circuits.probed(name, problem, self._clock())

    async def aclose(self) -> None:
        """Close every upstream; calls that are under way fail."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await asyncio.gather(*(line.upstream.aclose() for line in self._table.lines.values()))


def _now() -> float:
    return asyncio.get_running_loop().time()


def _line(registry: Registry, name: str, upstream: Upstream) -> Line:
    entry = registry.providers.get(name)
    return Line(upstream, entry.max_concurrent if entry else MAX_CONCURRENT)


async def _opened(
    beginning: list[JsonObject],
    chunks: AsyncGenerator[JsonObject],
    held: contextlib.AsyncExitStack,
) -> AsyncGenerator[JsonObject]:
    """An empty first item that starts the generator, then all chunks; closing it frees the turn."""
    async with held, contextlib.aclosing(chunks):
        yield {}
        for chunk in beginning:
            yield chunk
        async for chunk in chunks:
            yield chunk
