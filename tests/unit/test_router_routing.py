"""What the router decides, with upstreams that play a script and a clock that moves by hand."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from mana_actors.agent.planner.exchange import TokenUsage
from mana_actors.errors import ProviderBusy, ProviderError, ProviderRefused
from mana_actors.json_values import JsonObject
from mana_actors.llm.failures.cause import Lack
from mana_actors.llm.failures.wasted import Wasted
from mana_actors.llm.provider import Exposure
from mana_actors.llm.router.aliases.registry import (
    Alias,
    ModelEntry,
    Price,
    ProviderEntry,
    Registry,
    Target,
    UnknownAlias,
)
from mana_actors.llm.router.chain.trail import NoProviderLeft, PassedBy
from mana_actors.llm.router.routing import Router
from tests.upstreams import (
    BROKEN,
    GARBAGE,
    NETWORK,
    HandClock,
    ScriptedUpstream,
    Seen,
    rate_limited,
    refused,
)

LOCAL, EU, FAR = Target("home", "a"), Target("eu", "b"), Target("far", "c")
CHAIN = (LOCAL, EU, FAR)
HELLO: list[JsonObject] = [{"role": "user", "content": "hallo"}]
TOOLS = [{"type": "function", "function": {"name": "create_task"}}]
IMAGE = [{"type": "image_url", "image_url": {"url": "data:" + "x" * 100_000}}]


def providers(**more: Any) -> dict[str, ProviderEntry]:
    exposures: dict[str, Exposure] = {"home": "local", "eu": "eu", "far": "any"}
    return {name: ProviderEntry(name, "http://x", e, **more) for name, e in exposures.items()}


class World:
    """A router over three scripted providers, and what it does."""

    def __init__(self, registry: Registry | None = None, **answers: list[Any]) -> None:
        self.calls: list[str] = []
        self.upstreams = {
            name: ScriptedUpstream(name, answers.get(name), self.calls)
            for name in ("home", "eu", "far")
        }
        self.clock, self.seen = HandClock(), Seen()
        self.registry = registry or registry_of()
        self.router = Router(self.registry, self.upstreams, clock=self.clock, observer=self.seen)

    async def ask(self, exposure: Exposure = "any", deadline_s: float = 5, **body: Any) -> str:
        sent = {"model": "mana/x", "messages": HELLO} | body
        answer = await self.router.complete(sent, exposure=exposure, deadline_s=deadline_s)
        assert answer.answer["served"] == answer.target.name
        return answer.target.name

    async def fail(self, **asked: Any) -> ProviderError:
        with pytest.raises(ProviderError) as caught:
            await self.ask(**asked)
        return caught.value


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the scripted side has no event for it
            await asyncio.sleep(0)


def registry_of(
    *chain: Target, entries: dict[str, ProviderEntry] | None = None, **models: ModelEntry
) -> Registry:
    alias = Alias("mana/x", "", chain or CHAIN)
    of = {Target(target.provider, target.model): target for target in CHAIN}
    known = {of[t]: models[t.provider] for t in CHAIN if t.provider in models}
    return Registry({"mana/x": alias}, "mana/x", providers() if entries is None else entries, known)


# --- fallback -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NETWORK, "network"),
        (ProviderBusy("timeout"), "timeout"),
        (BROKEN, "http_500"),
        (GARBAGE, "invalid_answer"),
        (ProviderRefused("invalid_answer", 200, None, "too_large"), "invalid_answer"),
        (rate_limited(), "rate_limit"),
        (refused(401), "auth"),
        (refused(403), "auth"),
        (refused(402), "quota"),
        (refused(404), "missing_model"),
        (ProviderBusy("truncated", 502), "truncated"),
        (ProviderRefused("capability", 400), "capability"),
        (ProviderRefused("unknown", 400, None, "context_length_exceeded"), "capability"),
        (ProviderRefused("auth", 0, None, "key_file_unreadable"), "unconfigured"),
        (ProviderBusy("no_healthy_provider", 503), "no_healthy_provider"),
        (refused(400), "http_400"),
        (refused(422), "http_422"),
        (refused(307), "http_307"),
    ],
)
async def test_what_another_entry_may_do_better_goes_on_to_it(error: ProviderError, reason: str):
    world = World(home=[error])
    assert await world.ask() == "eu/b"
    assert world.calls == ["home/a", "eu/b"]
    assert world.seen.fallbacks == [("home/a", "eu/b", reason)]
    assert world.seen.resolutions == [("mana/x", "eu/b")]


@pytest.mark.parametrize(
    "error",
    [ProviderRefused("blocked", 422), ProviderRefused("unknown", 400, cause="malformed")],
)
async def test_what_no_entry_does_better_is_passed_on_and_no_trouble(error: ProviderError):
    world = World(home=[error])
    for _ in range(3):
        assert await world.fail() is error
    assert world.calls == ["home/a"] * 3
    assert world.router.health()["home"].consecutive_failures == 0


@pytest.mark.parametrize(
    "error", [ProviderBusy("truncated", 502), ProviderRefused("capability", 400)]
)
async def test_half_an_answer_is_no_outage(error: ProviderError):
    world = World(home=[error])
    for _ in range(3):
        assert await world.ask() == "eu/b"
    assert world.calls.count("home/a") == 3
    assert world.router.health()["home"].consecutive_failures == 0


async def test_a_chain_that_refused_to_the_last_ends_in_the_last_refusal():
    last = refused(422)
    world = World(home=[refused(400)], eu=[ProviderRefused("capability", 400)], far=[last])
    assert await world.fail() is last
    assert world.calls == ["home/a", "eu/b", "far/c"]
    assert {health.consecutive_failures for health in world.router.health().values()} == {0}


async def test_a_refusal_beside_an_outage_may_pass():
    world = World(home=[refused(400)], eu=[NETWORK], far=[refused(400)])
    assert (await world.fail()).kind == "no_healthy_provider"


LONG = Lack("context", limit=8192, asked=23_000)
LONGER = Lack("context", limit=32_768, asked=23_000)


async def test_a_prompt_too_long_for_all_is_told_with_the_roomiest_limit():
    refusals = [ProviderRefused("capability", 400, lack=each) for each in (LONG, LONGER, LONG)]
    world = World(home=[refusals[0]], eu=[refusals[1]], far=[refusals[2]])
    error = await world.fail()
    assert (error.kind, error.code, error.lack) == ("capability", "context_length_exceeded", LONGER)


async def test_what_failed_attempts_spent_goes_along_with_the_answer():
    half = ProviderBusy("invalid_answer", 200, usage=TokenUsage(100, 20, 130))
    entries = registry_of(home=ModelEntry(price=Price(prompt=1, completion=2)))
    world = World(entries, home=[half], eu=[ProviderBusy("timeout")])
    sent: JsonObject = {"model": "mana/x", "messages": HELLO}
    answer = await world.router.complete(sent, exposure="any", deadline_s=5)
    assert (answer.target, answer.wasted) == (FAR, Wasted(130, 160, unreported=1))
    assert Wasted.of(answer.wasted.headers) == answer.wasted


@pytest.mark.parametrize("last", [BROKEN, ProviderRefused("blocked", 422), refused(400)])
async def test_what_failed_attempts_spent_goes_along_with_the_error(last: ProviderError):
    half = ProviderBusy("truncated", 200, usage=TokenUsage(100, 20))
    world = World(registry_of(LOCAL, EU), home=[half], eu=[last])
    assert (await world.fail()).wasted == Wasted(120)


async def test_an_exhausted_chain_says_who_was_tried_in_codes():
    world = World(home=[NETWORK], eu=[BROKEN], far=[rate_limited(30)])
    error = await world.fail()
    assert isinstance(error, NoProviderLeft)
    assert (error.kind, error.status, error.retryable) == ("no_healthy_provider", 503, True)
    reasons = ("network", "http_500", "rate_limit")
    assert error.attempts == tuple(map(PassedBy, CHAIN, reasons))
    assert world.seen.fallbacks[-1] == ("far/c", None, "rate_limit")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (copy.attempts, copy.kind, str(copy)) == (error.attempts, error.kind, str(error))


async def test_the_whole_chain_asked_to_wait_so_is_the_caller():
    world = World(home=[rate_limited(50)], eu=[rate_limited(20)], far=[rate_limited(30)])
    assert (await world.fail()).retry_after_s == 20
    world.clock.now += 5
    assert (await world.fail()).retry_after_s == 15
    assert len(world.calls) == 3  # nobody was called again before its time


async def test_metrics_name_the_entry_that_was_really_tried_next():
    world = World(home=[NETWORK])
    world.upstreams["eu"].is_configured = False
    assert await world.ask() == "far/c"
    assert world.seen.fallbacks == [
        ("home/a", "far/c", "network"),
        ("eu/b", "far/c", "unconfigured"),
    ]


async def test_two_failures_close_a_provider_off_and_one_call_tries_it_out():
    world = World(home=[NETWORK, NETWORK, "ok"])
    for expected in ("eu/b", "eu/b", "eu/b"):
        assert await world.ask() == expected
    assert world.calls.count("home/a") == 2
    assert ("home", False) in world.seen.turns
    world.clock.now += 60
    assert await world.ask() == "home/a"
    assert world.seen.turns[-1] == ("home", True)


async def test_many_calls_at_once_send_one_to_a_half_open_provider():
    world = World(home=[NETWORK, NETWORK, "wait"])
    await world.ask()
    await world.ask()
    world.clock.now += 60
    asked = [asyncio.create_task(world.ask()) for _ in range(5)]
    done, _ = await asyncio.wait(asked[1:])
    assert {task.result() for task in done} == {"eu/b"}
    world.upstreams["home"].go_on.set()
    assert await asked[0] == "home/a"
    assert world.calls.count("home/a") == 3


@pytest.mark.parametrize("ending", [refused(400), "wait", ValueError("x")])
async def test_a_try_that_says_nothing_frees_the_place_for_the_next(ending: Any):
    world = World(home=[NETWORK, NETWORK, ending, "ok"])
    await world.ask()
    await world.ask()
    world.clock.now += 60
    trying = asyncio.create_task(world.ask())
    await until(lambda: world.calls.count("home/a") == 3)
    trying.cancel()
    await asyncio.gather(trying, return_exceptions=True)
    assert await world.ask() == "home/a"


async def test_a_missing_model_does_not_blacken_the_rest_of_its_provider():
    world = World(
        registry_of(Target("home", "gone"), Target("home", "a")), home=[refused(404), "ok"]
    )
    assert await world.ask() == "home/a"
    assert await world.ask() == "home/a"
    assert world.calls == ["home/gone", "home/a", "home/a"]
    assert world.router.health()["home"].status == "healthy"


async def test_a_wrong_key_closes_its_provider_off_at_once_and_is_reported():
    world = World(home=[refused(401)])
    await world.ask()
    await world.ask()
    assert world.calls == ["home/a", "eu/b", "eu/b"]
    assert world.router.health()["home"].last_error == "auth"


async def test_a_retry_after_is_kept_before_the_next_call():
    world = World(home=[rate_limited(200), "ok"])
    await world.ask()
    world.clock.now += 199
    assert await world.ask() == "eu/b"
    world.clock.now += 1
    assert await world.ask() == "home/a"


async def test_without_one_a_rate_limit_closes_off_for_less_time():
    world = World(home=[rate_limited(), rate_limited(), "ok"])
    await world.ask()
    await world.ask()
    world.clock.now += 14
    assert await world.ask() == "eu/b"
    world.clock.now += 1
    assert await world.ask() == "home/a"


async def test_a_direct_model_has_no_fallback_and_resolves_no_alias():
    world = World(home=[NETWORK])
    assert (await world.fail(model="home/z")).kind == "no_healthy_provider"
    assert await world.ask(model="eu/z") == "eu/z"
    assert world.calls == ["home/z", "eu/z"]
    assert world.seen.resolutions == []


async def test_the_default_serves_who_names_no_model():
    world = World()
    assert await world.ask(model="") == "home/a"
    assert world.seen.resolutions == [("mana/x", "home/a")]


async def test_an_unknown_alias_calls_nobody():
    world = World()
    with pytest.raises(UnknownAlias):
        await world.ask(model="mana/none")
    assert world.calls == []


# --- exposure -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exposure", "may"),
    [("local", ["home/a"]), ("eu", ["home/a", "eu/b"]), ("any", ["home/a", "eu/b", "far/c"])],
)
async def test_no_fallback_goes_beyond_the_exposure(exposure: Exposure, may: list[str]):
    world = World(home=[NETWORK], eu=[NETWORK], far=[NETWORK])
    for _ in range(4):
        assert (await world.fail(exposure=exposure)).kind == "no_healthy_provider"
        world.clock.now += 61
    assert set(world.calls) == set(may)


@pytest.mark.parametrize("model", ["mana/x", "far/c", "far/other"])
async def test_nobody_within_the_exposure_is_a_final_refusal(model: str):
    world = World(registry_of(EU, FAR))
    error = await world.fail(exposure="local", model=model)
    assert (error.kind, error.status, error.retryable) == ("exposure", 403, False)
    assert world.calls == []


async def test_a_missing_key_beyond_the_exposure_is_no_outage_that_passes():
    world = World(registry_of(FAR))
    world.upstreams["far"].is_configured = False
    assert (await world.fail(exposure="local")).kind == "exposure"


async def test_a_provider_nobody_described_is_as_far_as_can_be():
    world = World(registry_of(entries={}))
    assert (await world.fail(exposure="eu")).kind == "exposure"
    assert world.calls == []
    assert await world.ask() == "home/a"


async def test_streams_and_embeddings_keep_to_the_exposure():
    world = World(registry_of(EU, FAR))
    body: JsonObject = {"model": "mana/x", "messages": HELLO}
    with pytest.raises(ProviderRefused, match="exposure"):
        await world.router.stream(body, exposure="local", deadline_s=5)
    with pytest.raises(ProviderRefused, match="exposure"):
        await world.router.embed(body, exposure="local", deadline_s=5)
    assert world.calls == []


async def test_an_answer_names_how_far_its_prompt_went():
    world = World(home=[NETWORK])
    answer = await world.router.complete({"messages": HELLO}, exposure="any", deadline_s=5)
    assert (answer.exposure, answer.attempts) == ("eu", (PassedBy(LOCAL, "network"),))


# --- capability ---------------------------------------------------------------------------------

SMALL = ModelEntry(context_tokens=100)


@pytest.mark.parametrize(
    ("lacks", "body"),
    [
        (ModelEntry(tools=False), {"tools": TOOLS}),
        (ModelEntry(vision=False), {"messages": [{"role": "user", "content": IMAGE}]}),
        (SMALL, {"messages": [{"role": "user", "content": "x" * 300}]}),
        (SMALL, {"max_tokens": 200}),
        (SMALL, {"max_completion_tokens": 200}),
    ],
)
async def test_who_cannot_serve_is_passed_by(lacks: ModelEntry, body: JsonObject):
    world = World(registry_of(home=lacks))
    assert await world.ask(**body) == "eu/b"
    assert world.calls == ["eu/b"]
    assert await world.ask() == "home/a"
    world = World(registry_of(LOCAL, home=lacks))
    error = await world.fail(**body)
    assert (error.kind, error.status, world.calls) == ("capability", 400, [])


async def test_who_may_not_serve_does_not_shorten_the_wait():
    world = World(home=[rate_limited(50)], eu=[rate_limited(40)], far=[rate_limited(20)])
    assert (await world.fail()).retry_after_s == 20
    assert (await world.fail(exposure="eu")).retry_after_s == 40


async def test_images_take_no_room_as_text():
    world = World(registry_of(home=ModelEntry(context_tokens=1000)))
    assert await world.ask(messages=[{"role": "user", "content": IMAGE}]) == "home/a"


async def test_a_capable_entry_that_is_down_makes_it_an_outage():
    world = World(registry_of(home=ModelEntry(tools=False)), eu=[NETWORK], far=[NETWORK])
    assert (await world.fail(tools=TOOLS)).kind == "no_healthy_provider"


# --- time and turns -----------------------------------------------------------------------------


async def test_a_hanging_entry_leaves_time_for_the_next():
    world = World(home=["hang"])
    assert await world.ask(deadline_s=2) == "eu/b"
    assert world.upstreams["home"].deadlines[0] <= 1
    assert world.upstreams["eu"].deadlines[0] <= 0.5


async def test_the_last_that_could_serve_gets_all_the_time():
    world = World()
    world.upstreams["far"].is_configured = False
    await world.ask(deadline_s=100, exposure="local")
    assert world.upstreams["home"].deadlines[0] > 99
    world.upstreams["home"].is_configured = False
    await world.ask(deadline_s=100)
    assert world.upstreams["eu"].deadlines[0] > 99


async def test_the_deadline_of_a_provider_is_kept():
    world = World(registry_of(entries=providers(deadline_s=7.0)))
    await world.ask(deadline_s=100)
    assert world.upstreams["home"].deadlines[0] <= 7


async def test_no_provider_is_called_more_often_at_once_than_it_takes():
    world = World(registry_of(LOCAL, entries=providers(max_concurrent=2)), home=["wait"])
    asked = [asyncio.create_task(world.ask()) for _ in range(6)]
    await until(lambda: world.upstreams["home"].running == 2)
    world.upstreams["home"].go_on.set()
    assert await asyncio.gather(*asked) == ["home/a"] * 6
    assert world.upstreams["home"].most_running == 2


async def test_waiting_for_a_turn_counts_and_is_no_trouble():
    world = World(registry_of(entries=providers(max_concurrent=1)), home=["wait"])
    first = asyncio.create_task(world.ask())
    await until(lambda: world.calls)
    assert await world.ask(deadline_s=1) == "eu/b"
    assert world.seen.fallbacks == [("home/a", "eu/b", "busy")]
    assert world.router.health()["home"].consecutive_failures == 0
    world.upstreams["home"].go_on.set()
    assert await first == "home/a"


async def test_who_got_little_time_because_others_were_before_it_is_not_slow():
    entries = providers(max_concurrent=1, deadline_s=1.0)
    world = World(registry_of(entries=entries), home=["wait", "hang"])
    first = asyncio.create_task(world.ask(deadline_s=60))
    await until(lambda: world.calls)
    asyncio.get_running_loop().call_later(0.7, world.upstreams["home"].go_on.set)
    assert await world.ask(deadline_s=60) == "eu/b"
    assert await first == "home/a"
    assert world.router.health()["home"].consecutive_failures == 0


# --- streams ------------------------------------------------------------------------------------


async def streamed(world: World, **body: Any) -> tuple[str, list[str]]:
    sent = {"model": "mana/x", "messages": HELLO} | body
    found = await world.router.stream(sent, exposure="any", deadline_s=5)
    return found.target.name, [chunk["chunk"] async for chunk in found.answer]


async def test_a_stream_falls_back_before_its_first_chunk():
    world = World(home=[NETWORK], eu=[{"chunks": 2}])
    assert await streamed(world) == ("eu/b", ["eu:0", "eu:1"])


async def test_a_stream_that_breaks_later_is_not_spliced():
    world = World(home=[{"chunks": 2, "error": BROKEN}])
    sent: JsonObject = {"model": "mana/x", "messages": HELLO}
    found = await world.router.stream(sent, exposure="any", deadline_s=5)
    chunks: list[str] = []

    async def read() -> None:
        async for chunk in found.answer:
            chunks.append(chunk["chunk"])  # noqa: PERF401 - what came before the error counts

    with pytest.raises(ProviderBusy):
        await read()
    assert chunks == ["home:0", "home:1"]
    assert world.calls == ["home/a"]


async def test_an_empty_stream_is_an_answer():
    world = World(home=[{"chunks": 0}])
    assert await streamed(world) == ("home/a", [])


async def test_a_stream_that_does_not_begin_is_passed_by():
    world = World(home=["hang"])
    sent: JsonObject = {"model": "mana/x", "messages": HELLO}
    found = await world.router.stream(sent, exposure="any", deadline_s=1)
    assert found.attempts == (PassedBy(LOCAL, "timeout"),)
    await found.answer.aclose()


async def test_a_stream_keeps_its_turn_until_it_ends():
    world = World(registry_of(entries=providers(max_concurrent=1)), home=[{"chunks": 3}, "ok"])
    sent: JsonObject = {"model": "mana/x", "messages": HELLO}
    found = await world.router.stream(sent, exposure="any", deadline_s=5)
    assert await anext(found.answer) == {"chunk": "home:0"}
    assert await world.ask(deadline_s=1) == "eu/b"
    assert len([chunk async for chunk in found.answer]) == 2
    assert await world.ask() == "home/a"


@pytest.mark.parametrize("read", [0, 1, 3])
async def test_a_stream_gives_its_turn_back_however_far_it_was_read(read: int):
    world = World(
        registry_of(LOCAL, entries=providers(max_concurrent=1)), home=[{"chunks": 3}, "ok"]
    )
    sent: JsonObject = {"model": "mana/x", "messages": HELLO}
    found = await world.router.stream(sent, exposure="any", deadline_s=5)
    for _ in range(read):
        await anext(found.answer)
    await found.answer.aclose()
    assert await world.ask(deadline_s=1) == "home/a"


# --- embeddings, models, probes -----------------------------------------------------------------


async def test_embeddings_come_from_the_first_entry_or_not_at_all():
    world = World(home=[NETWORK])
    body: JsonObject = {"model": "mana/x", "input": "x"}
    with pytest.raises(NoProviderLeft):
        await world.router.embed(body, exposure="any", deadline_s=5)
    assert world.calls == ["home/a"]
    with pytest.raises(UnknownAlias):
        await world.router.embed({"input": "x"}, exposure="any", deadline_s=5)
    world.upstreams["home"].is_configured = False
    with pytest.raises(ProviderRefused) as caught:
        await world.router.embed(body, exposure="any", deadline_s=5)
    assert (caught.value.status, caught.value.code) == (400, "unconfigured")


async def test_models_of_providers_that_fail_are_left_out():
    world = World(eu=[NETWORK])
    names = [target.name for target in await world.router.models()]
    assert names == ["far/a", "far/b", "home/a", "home/b"]


async def test_one_bad_probe_affects_only_itself():
    world = World()
    world.upstreams["home"].probes = ["hang"]
    world.upstreams["eu"].probes = [RuntimeError("x")]
    for _ in range(2):
        await world.router.probe_once(0.05)
    health = world.router.health()
    assert {name: shown.last_error for name, shown in health.items()} == {
        "home": "probe_timeout",
        "eu": "probe_failed",
        "far": None,
    }
    assert await world.ask() == "far/c"


async def test_what_a_probe_finds_is_no_matter_for_the_provider_that_came_after():
    world = World()
    world.upstreams["home"].probes = ["hang"]
    probing = asyncio.create_task(world.router.probe_once(0.2))
    await asyncio.sleep(0.01)  # it has asked; nothing of it is known yet
    entries = providers() | {"home": ProviderEntry("home", "http://new", "local")}
    fresh = {name: ScriptedUpstream(name, None, world.calls) for name in world.upstreams}
    world.router.replace(registry_of(entries=entries), fresh)
    await probing
    assert world.router.health()["home"].last_error is None


async def test_the_probe_loop_starts_at_once_and_ends_when_cancelled():
    world = World()
    loop = asyncio.create_task(world.router.probe_loop(3600))
    await until(lambda: world.router.health()["home"].last_check_unix)
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    assert loop.cancelled()


@pytest.mark.parametrize(("interval_s", "timeout_s"), [(0, 3), (30, 0)])
async def test_a_probe_loop_without_time_is_refused(interval_s: float, timeout_s: float):
    with pytest.raises(ValueError, match="above 0"):
        await World().router.probe_loop(interval_s, timeout_s)


# --- reload -------------------------------------------------------------------------------------


async def test_a_reload_keeps_the_health_of_who_stayed_the_same():
    world = World(home=[NETWORK], eu=[NETWORK])
    await world.ask()
    await world.ask()
    entries = providers() | {"eu": ProviderEntry("eu", "http://new", "eu")}
    fresh = {name: ScriptedUpstream(name, None, world.calls) for name in world.upstreams}
    world.router.replace(registry_of(entries=entries), fresh)
    world.calls.clear()
    assert await world.ask() == "eu/b"  # home is still closed off, eu is another one now
    await until(lambda: world.upstreams["eu"].closed)
    assert not world.upstreams["home"].closed


async def test_a_reload_lets_calls_that_run_end_and_then_closes():
    world = World(home=["wait"])
    asked = asyncio.create_task(world.ask())
    await until(lambda: world.calls)
    old = world.upstreams["home"]
    rest = {name: world.upstreams[name] for name in ("eu", "far")}
    entries = {name: entry for name, entry in providers().items() if name != "home"}
    world.router.replace(registry_of(EU, FAR, entries=entries), rest)
    for _ in range(20):  # turns of the loop in which it could be closed too early
        assert await world.ask() == "eu/b"
        await asyncio.sleep(0)
    assert not old.closed
    old.go_on.set()
    assert await asked == "home/a"
    await until(lambda: old.closed)
    assert "home" not in world.router.health()


async def test_turns_taken_before_a_reload_still_count_after_it():
    entries = providers(max_concurrent=1)
    world = World(registry_of(entries=entries), home=["wait"])
    asked = asyncio.create_task(world.ask())
    await until(lambda: world.calls)
    world.router.replace(registry_of(entries=entries), dict(world.upstreams))
    assert await world.ask(deadline_s=1) == "eu/b"
    world.upstreams["home"].go_on.set()
    assert await asked == "home/a"


async def test_facts_follow_who_is_configured():
    world = World(registry_of(home=ModelEntry(context_tokens=10)))
    assert world.router.facts("mana/x", "any").context_tokens == 10
    world.upstreams["home"].is_configured = False
    assert world.router.facts("mana/x", "any").context_tokens == 200_000
