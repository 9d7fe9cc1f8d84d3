"""Answers and streams that are anything: an answer or a reason, all paid, the next served."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from itertools import count
from pathlib import Path
from typing import Any, cast, get_args

import httpx2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mana_actors.agent.attempt.job import Job, Tally
from mana_actors.agent.attempt.means import Means
from mana_actors.agent.model.calls import ModelCalls
from mana_actors.agent.planner.exchange import ChatMessage, ModelAnswer, ModelRequest
from mana_actors.agent.recall import Recall
from mana_actors.errors import ProviderError, ProviderErrorKind
from mana_actors.llm.client import HttpProvider
from mana_actors.llm.router.settings import AliasFile
from mana_actors.messages import AgentSettings
from state.store.agent import CallStart, Unsettled
from tests.fake_provider import Entry, Recorded
from tests.router_parts import RunningRouter
from tests.zoo.keeper import PLAN, Personality, Zoo
from tests.zoo.rules import Json, prompt_tokens
from tests.zoo.speech import Habits, Spent, answer_of, stream_of

EXAMPLES = int(os.environ.get("MANA_FUZZ_EXAMPLES", "60"))
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
REQUEST = ModelRequest(
    "mana/x", (ChatMessage("system", "Plane."), ChatMessage("user", "Die Woche.")), max_output=900
)
NAMES = 5 * EXAMPLES + 10
numbers = count()


class FuzzedZoo(Zoo):
    """`fuzzed` says what it is told to, once; `far` is always well."""

    def __init__(self) -> None:
        super().__init__([Personality(name="far", source="well")])
        self.says: Entry = {}
        self.heard: Json = {}

    def _record(self, request: Recorded) -> Entry:
        if request.path.startswith("/far/"):
            return super()._record(request)
        self.heard = request.body
        return self.says


@pytest.fixture(scope="module")
def zoo() -> Generator[FuzzedZoo]:
    with FuzzedZoo() as open_zoo:
        yield open_zoo


@pytest.fixture(scope="module")
def router(zoo: FuzzedZoo, tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningRouter]:
    """A provider of its own for each example, so that none is closed off by the one before it."""
    folder: Path = tmp_path_factory.mktemp("fuzz")
    file = folder / "aliases.yaml"
    near = [f"n{n}" for n in range(NAMES)]
    file.write_text(
        json.dumps(
            {
                "aliases": {f"mana/{n}": {"chain": [f"{n}/m", "far/model-1"]} for n in near},
                "providers": {
                    name: {"url": zoo.url_of(name), "exposure": "any", "probe_path": None}
                    for name in [*near, "far"]
                },
            }
        )
    )
    with RunningRouter(folder, AliasFile(str(file))) as running:
        yield running


class Till:
    """The part of the store that a model call needs; `charged` as the database would."""

    def __init__(self) -> None:
        self.held = self.charged = 0

    async def begin_call(self, *_: Any, hold: Any, **__: Any) -> CallStart:
        self.held = hold.tokens
        return CallStart("go", 1)

    async def end_call(self, call: Unsettled, _noted: str = "{}") -> int:
        charged = self.held if call.tokens is None else call.tokens
        self.charged += charged
        return charged


async def asked(provider: HttpProvider, model: str) -> tuple[ModelAnswer | ProviderError, int]:
    """What an agent gets from `model`, and what it is charged."""
    till = Till()
    settings_ = AgentSettings("", "", "", "", None, model, call_deadline_s=10.0)
    means = Means(
        user_id="u1",
        agent_id="a1",
        holder="h",
        settings=settings_,
        recall=Recall(cast("Any", till), "u1", "a1"),
        store=cast("Any", till),
        provider=provider,
        key_holder=None,
        leases=cast("Any", None),
        resolvers={},
        crash=lambda _: None,
    )
    nothing = cast("Any", None)
    job = Job(
        run_id="r1",
        attempt=1,
        failures=0,
        lost=0,
        occurrence=nothing,
        pinned=nothing,
        found=nothing,
        mission=nothing,
        agent=nothing,
        zone=nothing,
        exposure="any",
        inputs={},
    )
    calls = ModelCalls(means, job, Tally())
    request = ModelRequest(model, REQUEST.messages, max_output=REQUEST.max_output)
    found: ModelAnswer | ProviderError
    try:
        found = await calls.ask(request, 1)
    except ProviderError as exc:
        found = exc
    finally:
        await calls.settle()
    return found, till.charged


# --- what is said --------------------------------------------------------------------------------

SPENT = Spent(prompt=60, output=70, thinking=5)
junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["\ud83d", "\x00", "stop", "tool_calls", "error", "</think>", "create_task"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
no_report = st.sampled_from(
    [
        None,
        {},
        [],
        7,
        "x",
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        {"prompt_tokens": -60, "completion_tokens": -70, "total_tokens": -130},
        {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None},
        {"prompt_tokens": True, "completion_tokens": True, "total_tokens": True},
        {"prompt_tokens": 2**80, "completion_tokens": 2**80},
        {"prompt_tokens": [60], "completion_tokens": {"a": 70}},
        {"prompt_tokens": "viel", "completion_tokens": "mehr"},
        {"total_tokens": 0},
        {"prompt_tokens": 60},
        {"prompt_tokens": 60, "completion_tokens": 0, "total_tokens": 60},
    ]
)
"""Reports that say nothing, or nothing that can be true of an answer with text."""


def answer(number: int) -> Json:
    return answer_of(Habits(usage="plain"), PLAN[number], number, SPENT, "m")


@st.composite
def damaged(draw: st.DrawFn, whole: Any) -> Any:
    """JSON with something else somewhere; its `usage` stays as it is."""
    value = json.loads(json.dumps(whole))
    for _ in range(draw(st.integers(1, 3))):
        at, keys = value, list[Any]()
        while isinstance(at, dict | list) and at and (not keys or draw(st.integers(0, 3))):
            choices: list[Any] = list(range(len(at))) if isinstance(at, list) else sorted(at)  # pyright: ignore[reportUnknownArgumentType]
            choices = [key for key in choices if key != "usage"] or [None]
            key: Any = draw(st.sampled_from(choices))
            if key is None:
                break
            keys.append(key)
            at = at[key]  # pyright: ignore[reportUnknownVariableType]
        holder = value
        for key in keys[:-1]:
            holder = holder[key]
        if not keys:
            continue
        if isinstance(holder, dict) and draw(st.booleans()):
            del holder[keys[-1]]
        else:
            holder[keys[-1]] = draw(junk)
    return value


@st.composite
def plain_answers(draw: st.DrawFn) -> tuple[Entry, bool]:
    """An answer, and whether it was billed."""
    whole = answer(draw(st.sampled_from([0, 1, 3])))
    kind = draw(st.sampled_from(["bytes", "cut", "json", "report", "refusal", "other", "closed"]))
    if kind == "bytes":
        return {"garbage": draw(st.binary(max_size=200))}, True
    if kind == "other":
        return {"garbage": _bytes(draw(junk))}, True
    if kind == "refusal":
        status = draw(st.integers(300, 599))
        error = {"message": draw(st.text(max_size=30)), "type": "x", "code": draw(junk)}
        body = draw(damaged([{"error": error}, "context length"]))
        return {"status": status, "garbage": _bytes(body[0] if body else body)}, False
    if kind == "report":
        whole["usage"] = draw(no_report)
    if kind == "json":
        whole = draw(damaged(whole))
    raw = _bytes(whole)
    if kind == "cut":
        raw = raw[: draw(st.integers(0, len(raw)))]
    return {"garbage": raw} | ({"close": "body"} if kind == "closed" else {}), True


def _bytes(value: Any) -> bytes:
    """As JSON, with NaN, lone surrogates and all."""
    return json.dumps(value).encode()


@FUZZ
@given(said=plain_answers())
@example(said=({"garbage": b"\xff" * 50}, True))
@example(said=({"garbage": _bytes(answer(3) | {"usage": {"prompt_tokens": 60}})}, True))
async def test_any_answer_ends_in_a_plan_or_a_reason_and_is_paid(
    said: tuple[Entry, bool], zoo: FuzzedZoo, provider: HttpProvider
):
    zoo.says, was_billed = said
    near = f"n{next(numbers) % NAMES}"
    billed = SPENT.total if was_billed else 0
    found, charged = await asked(provider, f"{near}/m")
    assert isinstance(found, ModelAnswer) or found.kind in get_args(ProviderErrorKind)
    assert charged >= billed, found
    far = zoo.anew("far")
    found, charged = await asked(provider, f"mana/{near}")
    if isinstance(found, ModelAnswer) and found.resolved_model.startswith("far/"):
        assert charged >= far.billed
    zoo.says = {"garbage": _bytes(answer(3))}
    found, _ = await asked(provider, f"mana/{near}")
    assert isinstance(found, ModelAnswer), found


# --- streams -------------------------------------------------------------------------------------


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """The bytes of a stream, as they come."""
    style: Any = draw(
        st.sampled_from(["openai", "azure", "gemini", "openrouter", "llama", "xai", "crlf"])
    )
    pieces = stream_of(Habits(stream=style), PLAN[draw(st.sampled_from([0, 1, 3]))], 0, SPENT, "m")
    chunks: list[Any] = list(pieces)
    if draw(st.booleans()):
        chunks = draw(damaged(chunks)) if style not in ("crlf", "openrouter") else chunks
    raws = [
        each if isinstance(each, bytes) else b"data: " + _bytes(each) + b"\n\n" for each in chunks
    ]
    if draw(st.booleans()):
        raws.insert(draw(st.integers(0, len(raws))), draw(st.binary(max_size=40)))
    raw = b"".join(raws)
    if draw(st.booleans()):
        raw = raw[: draw(st.integers(0, len(raw)))]
    return _cut(raw, sorted(draw(st.lists(st.integers(0, len(raw)), max_size=6))))


def _cut(raw: bytes, places: list[int]) -> list[bytes]:
    ends = [*places, len(raw)]
    return [raw[begin:end] for begin, end in zip([0, *places], ends, strict=True) if end > begin]


def frames(router: RunningRouter, model: str) -> tuple[int, list[Any]]:
    """The status of a streamed call, and its events; the last is "[DONE]" where it was 200."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hallo"}], "stream": True}
    headers = {"authorization": f"Bearer {router.token_file.read_text()}"}
    url = f"{router.url}/v1/chat/completions"
    done = httpx2.post(url, json=body, headers=headers, verify=False, timeout=20)
    if done.status_code != 200:
        return done.status_code, [done.json()]
    lines = [line for line in done.text.split("\n\n") if line and not line.startswith(":")]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return 200, [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


@FUZZ
@given(pieces=streams(), end=st.sampled_from(["done", "undone", "closed"]))
def test_any_stream_ends_in_an_end_or_a_reason_and_the_next_is_served(
    pieces: list[bytes], end: str, zoo: FuzzedZoo, router: RunningRouter
):
    zoo.says = {"stream": pieces}
    zoo.says |= {"undone": True} if end == "undone" else {}
    zoo.says |= {"close": "body"} if end == "closed" else {}
    near = f"n{next(numbers) % NAMES}"
    status, events = frames(router, f"{near}/m")
    if status == 200:
        assert not any("error" in event for event in events[:-1])
    else:
        assert events[0]["detail"]["kind"]
    zoo.says = {"stream": stream_of(Habits(), PLAN[3], 0, SPENT, "m")}
    zoo.anew("far")
    status, events = frames(router, f"mana/{near}")
    assert status == 200
    assert not any("error" in event for event in events)


@FUZZ
@given(data=st.data(), style=st.sampled_from(["openai", "azure", "xai", "llama", "crlf"]))
def test_however_a_stream_is_cut_it_says_the_same(
    data: st.DataObject, style: Any, zoo: FuzzedZoo, router: RunningRouter
):
    near = f"n{next(numbers) % NAMES}/m"
    pieces = stream_of(Habits(stream=style), PLAN[1], 0, SPENT, "m")
    raw = b"".join(
        each if isinstance(each, bytes) else b"data: " + _bytes(each) + b"\n\n" for each in pieces
    )
    ends = data.draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    raw = raw.replace(b"\r\n", b"\n").replace(b"\n", ends)
    places = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=20)))
    zoo.says = {"stream": pieces}
    whole = frames(router, near)
    zoo.says = {"stream": _cut(raw, places)}
    assert frames(router, near) == whole
    assert whole[0] == 200


def test_a_request_counts_as_what_the_zoo_bills(zoo: FuzzedZoo):
    """The bill of the examples above is one that a hold covers."""
    assert prompt_tokens({"messages": [{"role": "user", "content": "x" * 400}]}) > 100
    assert SPENT.total < REQUEST.max_output
