"""The zoo's server: each personality under a path of its own, with what it heard and billed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec

from mana_actors.llm.router.settings import AliasFile
from tests.fake_provider import Entry, FakeProvider, Recorded
from tests.zoo.rules import Json, KnownMembers, Refusal, Rule, prompt_tokens, refusal_of
from tests.zoo.speech import Call, Habits, Spent, Turn, answer_of, stream_of

THOUGHT = "geheimer Gedanke"
PLAN = (
    Turn(
        calls=(Call("create_task", {"title": "Einkaufen"}), Call("create_task", {"title": " "})),
        thoughts=f"{THOUGHT} eins",
    ),
    Turn("Noch eins.", (Call("create_task", {"title": "  "}),), f"{THOUGHT} zwei"),
    Turn("", (Call("create_task", {"title": "Steuer \U0001f600"}),), f"{THOUGHT} drei"),
    Turn("Zwei Tasks vorgeschlagen.", thoughts=f"{THOUGHT} vier"),
)
"""What every model of the zoo says, round by round.

Two calls fail in a row, so that the third round brings a reminder: a late system message.
"""
TITLES = ["Einkaufen", "Steuer \U0001f600"]


class Personality(msgspec.Struct, frozen=True, kw_only=True):
    """One service: where its ways are published, its models, what it refuses, how it talks.

    `answers`, where given, replaces what it would say, entry by entry (tests/fake_provider.py);
    `bills` are the tokens of each.
    """

    name: str
    source: str
    model: str = "model-1"
    models: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    habits: Habits = Habits()
    answers: tuple[Entry, ...] = ()
    bills: tuple[int, ...] = ()
    listed: Json = {}  # what /models says of its model

    @property
    def known(self) -> tuple[str, ...]:
        """The models it answers for."""
        return self.models or (self.model,)


class Resident:
    """One personality at work; `lost` says what a later round no longer held."""

    def __init__(self, personality: Personality) -> None:
        self.personality = personality
        self._rules = personality.rules
        self.plan: Sequence[Turn] = PLAN
        self.requests: list[Json] = []
        self.refusals: list[Refusal] = []
        self.issued: list[Turn] = []
        self.billed = 0
        self.lost: list[str] = []
        self.leaves_after: int | None = None  # so many answers it is down
        self._answers = iter(zip(personality.answers, personality.bills, strict=True))

    def hear(self, request: Recorded) -> Entry:
        """What becomes of a request."""
        one = self.personality
        if request.path.endswith("/models"):
            data = [{"id": model, "object": "model"} | one.listed for model in one.known]
            return {"answer": {"object": "list", "data": data}}
        body: Json = request.body
        self.requests.append(body)
        for entry, bill in self._answers:
            self.billed += bill
            return entry
        if self.leaves_after is not None and len(self.issued) >= self.leaves_after:
            return {"status": 503, "answer": {"error": {"message": "overloaded", "code": 503}}}
        no = refusal_of(one.rules, one.known, body)
        if no is not None:
            self.refusals.append(no)
            return {"status": no.status, "answer": no.body, "headers": no.headers}
        return self._answered(body)

    def _answered(self, body: Json) -> Entry:
        habits, model = self.personality.habits, self.personality.model
        earlier = [m for m in body["messages"] if m["role"] == "assistant"]
        self._compare(earlier)
        turn = self.plan[min(len(earlier), len(self.plan) - 1)]
        self.issued.append(turn)
        said = turn.text + "".join(json.dumps(call.arguments) for call in turn.calls)
        thinking = len(turn.thoughts) // 4 if habits.thoughts != "none" else 0
        prompt = prompt_tokens(body)
        spent = Spent(prompt, len(said) // 4 + 1, thinking, prompt // 2 if earlier else 0)
        self.billed += spent.total
        number = len(earlier)
        if body.get("stream"):
            return {"stream": stream_of(habits, turn, number, spent, model)}
        return {"answer": answer_of(habits, turn, number, spent, model)}

    def _compare(self, earlier: list[Json]) -> None:
        """Note what of our own turns a request does not hold any more."""
        if len(earlier) != len(self.issued):
            return  # some were another's
        for number, (message, turn) in enumerate(zip(earlier, self.issued, strict=True)):
            calls: list[Json] = message.get("tool_calls") or []
            found = [json.loads(call["function"]["arguments"]) for call in calls]
            wanted = [call.arguments for call in turn.calls]
            if found != wanted and not self.personality.habits.in_text:
                self.lost.append(f"calls of turn {number}: {found} instead of {wanted}")
            if turn.text and turn.text not in str(message.get("content")):
                self.lost.append(f"text of turn {number}")
            kept = self.personality.habits.thoughts
            if any(isinstance(r, KnownMembers) and kept not in r.message for r in self._rules):
                continue
            if kept in ("reasoning_content", "reasoning") and message.get(kept) != turn.thoughts:
                self.lost.append(f"{kept} of turn {number}")


class Zoo(FakeProvider):
    """One server for all of them; use as a context manager."""

    def __init__(self, personalities: Sequence[Personality]) -> None:
        super().__init__()
        self.residents = {one.name: Resident(one) for one in personalities}

    def url_of(self, name: str) -> str:
        """The base address of one of them, with its `/v1`."""
        return f"{self.url}/{name}/v1"

    def anew(self, name: str) -> Resident:
        """One that remembers nothing."""
        self.residents[name] = found = Resident(self.residents[name].personality)
        return found

    def _record(self, request: Recorded) -> Entry:
        super()._record(request)
        return self.residents[request.path.split("/")[1]].hear(request)


def alias_file(
    zoo: Zoo,
    folder: Path,
    chains: dict[str, list[str]],
    *,
    urls: dict[str, str] | None = None,
) -> AliasFile:
    """An alias file (JSON is YAML) with an alias for each chain; it says nothing but addresses.

    `urls` are addresses of services outside of the zoo.
    """
    file = folder / "aliases.yaml"
    addresses = {name: zoo.url_of(name) for name in zoo.residents} | (urls or {})
    text = json.dumps(
        {
            "aliases": {
                f"mana/{alias}": {
                    "chain": [f"{name}/{zoo.residents[name].personality.model}" for name in names]
                }
                for alias, names in chains.items()
            },
            "providers": {
                name: {"url": url, "exposure": "any", "probe_path": None}
                for name, url in addresses.items()
            },
        }
    )
    file.write_text(text)
    return AliasFile(str(file))
