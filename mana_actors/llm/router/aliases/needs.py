"""What a request asks of a model: tools, images, room in its context."""

import math

import msgspec

from mana_actors.json_values import JsonObject, as_list, objects_in
from mana_actors.llm.router.aliases.registry import Registry, Target

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
        messages = [
            message
            if isinstance(message.get("content"), str)
            else message | {"content": [part for part in found if not _is_image(part)]}
            for message, found in zip(messages, parts, strict=True)
        ]
    tools = as_list(body.get("tools"))
    limits = (body.get("max_tokens"), body.get("max_completion_tokens"))
    return Needs(
        tools=bool(tools),
        vision=vision,
        text_bytes=len(_encoder.encode([messages, tools])),
        output_tokens=max(
            limit if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0 else 0
            for limit in limits
        ),
    )


def _is_image(part: JsonObject) -> bool:
    return part.get("type") == "image_url"
