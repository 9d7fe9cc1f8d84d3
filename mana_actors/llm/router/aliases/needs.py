"""What a request asks of a model: tools, images, room in its context."""

import math
from typing import Any

import msgspec

from mana_actors.json_values import JsonObject, as_list, objects_in
from mana_actors.llm.router.aliases.registry import Registry
from mana_actors.llm.router.contract import Target

_encoder = msgspec.json.Encoder()


class Needs(msgspec.Struct, frozen=True):
    """What a request needs; `text_bytes` is its JSON without images."""

    tools: bool = False
    vision: bool = False
    text_bytes: int = 0
    output_tokens: int = 0

    def are_met(self, registry: Registry, target: Target) -> bool:
        """Whether `target` can serve the request."""
        model = registry.model(target)
        tokens = math.ceil(self.text_bytes / model.bytes_per_token) + self.output_tokens
        return (
            (not self.tools or registry.can(target, "tools"))
            and (not self.vision or registry.can(target, "vision"))
            and tokens <= model.context_tokens
        )


def needs_of(body: JsonObject) -> Needs:
    """What a chat-completions request needs."""
    messages = objects_in(body.get("messages"))
    parts = [objects_in(message.get("content")) for message in messages]
    vision = any(_is_image(part) for found in parts for part in found)
    if vision:
        messages = [_without_images(message) for message in messages]
    tools = as_list(body.get("tools"))
    return Needs(
        tools=bool(tools),
        vision=vision,
        text_bytes=len(_encoder.encode([messages, tools])),
        output_tokens=max(_tokens(body.get(f)) for f in ("max_tokens", "max_completion_tokens")),
    )


def _is_image(part: JsonObject) -> bool:
    return part.get("type") == "image_url"


def _without_images(message: JsonObject) -> JsonObject:
    content = message.get("content")
    texts = [part for part in objects_in(content) if not _is_image(part)]
    return message if isinstance(content, str) else message | {"content": texts}


def _tokens(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
