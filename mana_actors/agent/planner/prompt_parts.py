"""What a prompt is made of, in tokens: counts only, never a text. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import msgspec

from mana_actors.agent.planner.compaction import context_tokens
from mana_actors.agent.planner.exchange import ModelRequest

Part = Literal["rules", "persona", "tools", "mission", "inputs", "history", "talk", "reminders"]
"""`talk` is what model and tools said in the rounds before."""

PARTS: tuple[Part, ...] = get_args(Part)
MOST_INPUTS = 100
REMINDER = "<reminder>"
_encode = msgspec.json.Encoder().encode


class KnownTexts(msgspec.Struct, frozen=True):
    """Texts that a run's prompts begin with: how many bytes of each is which part.

    `inputs` are bytes of each input of the mission, in the mission's order; 0 where it had none.
    """

    texts: Mapping[str, Mapping[Part, int]] = {}  # msgspec copies it
    inputs: Sequence[int] = ()


class PromptParts(msgspec.Struct, frozen=True):
    """Tokens of each part that a prompt has, and of each input within theirs."""

    tokens: dict[str, int]
    inputs: tuple[int, ...]


def size(text: str) -> int:
    """Bytes of a text as a request carries it, without its quotes."""
    return len(_encode(text)) - 2


def prompt_parts(request: ModelRequest, known: KnownTexts, told: int) -> PromptParts:
    """What the prompt of a request was made of; together its parts are all of its tokens.

    `told` are the prompt's tokens as its model counted them, 0 where it did not say.
    """
    found: dict[Part, int] = dict.fromkeys(PARTS, 0)
    found["tools"] = len(_encode(request.tools)) if request.tools else 0
    for message in request.messages:
        text = message.content or ""
        if message.role == "system" and text.startswith(REMINDER):
            found["reminders"] += size(text)
        elif (of := known.texts.get(text)) is not None:
            for part, count in of.items():
                found[part] += count
        elif message.role == "system":  # of a helper of the agent, or of who sums up
            found["rules"] += size(text)
    whole = len(request.raw)
    found["talk"] = max(0, whole - sum(found.values()))
    per_byte = (told or context_tokens(request, None)) / whole
    is_first = any("inputs" in of for of in map(known.texts.get, _texts(request)) if of)
    inputs = known.inputs[:MOST_INPUTS] if is_first else ()
    return PromptParts(
        {part: round(count * per_byte) for part, count in found.items() if count},
        tuple(round(count * per_byte) for count in inputs),
    )


def _texts(request: ModelRequest) -> list[str]:
    return [message.content or "" for message in request.messages]
