"""What a request asks of a model: tools, images, room in its context."""

import math
from typing import Literal

import msgspec

from mana_actors.json_values import JsonObject, as_list, objects_in
from mana_actors.llm.provider import LEAST_OUTPUT
from mana_actors.llm.router.entries.abilities import Abilities
from mana_actors.llm.router.entries.fitting import asked_output

_encoder = msgspec.json.Encoder()

Lacking = Literal["tools", "vision", "context"]


class Needs(msgspec.Struct, frozen=True):
    """What a request needs; `text_bytes` is its JSON without images."""

    tools: bool = False
    vision: bool = False
    text_bytes: int = 0
    output_tokens: int = 0

    def lacking(self, abilities: Abilities, bytes_per_token: float) -> Lacking | None:
        """What an entry of these abilities lacks for the request, or None."""
        if self.tools and abilities.tools is False:
            return "tools"
        if self.vision and abilities.vision is False:
            return "vision"
        is_long = self.output_room(abilities, bytes_per_token) < least_output(self.output_tokens)
        return "context" if is_long else None

    def output_room(self, abilities: Abilities, bytes_per_token: float) -> int:
        """The tokens that the context leaves for the answer; below 0 where the prompt is longer."""
        return abilities.context - math.ceil(self.text_bytes / bytes_per_token)


def least_output(wanted: int) -> int:
    """The room without which an answer of up to `wanted` tokens is not worth asking for."""
    return min(wanted, LEAST_OUTPUT)


def needs_of(body: JsonObject) -> Needs:
    """What a chat-completions request needs."""
    messages = objects_in(body.get("messages"))
    parts = [objects_in(message.get("content")) for message in messages]
    vision = any(_is_image(part) for found in parts for part in found)
    if vision:
        messages = [
            message
            if isinstance(message.get("content"), str)
            else message | {"content": [part for part in found if not _is_image(part)]}
            for message, found in zip(messages, parts, strict=True)
        ]
    tools = as_list(body.get("tools"))
    return Needs(
        tools=bool(tools),
        vision=vision,
        text_bytes=len(_encoder.encode([messages, tools])),
        output_tokens=asked_output(body) or 0,
    )


def _is_image(part: JsonObject) -> bool:
    return part.get("type") == "image_url"
