"""What is known of well-known services before anybody asks them: assumed, so everybody may differ.

Each row: where it answers, which models, what is assumed, and where that was seen.
"""

from fnmatch import fnmatchcase
from urllib.parse import urlsplit

import msgspec

from mana_actors.llm.router.entries.abilities import NOTHING, Abilities


class Service(msgspec.Struct, frozen=True):
    """Models of one service, and what is assumed of them; hosts and models are patterns."""

    hosts: tuple[str, ...]
    models: tuple[str, ...]
    abilities: Abilities
    source: str


_SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty")

SERVICES = (
    Service(
        ("api.openai.com", "*.openai.azure.com", "*.cognitiveservices.azure.com"),
        ("o1*", "o3*", "o4*", "gpt-5*"),
        Abilities(limit_name="max_completion_tokens", unsupported=_SAMPLING),
        "OpenAI's guide to reasoning models; gollm #33",
    ),
    Service(
        ("api.moonshot.ai", "api.moonshot.cn"),
        ("kimi-k2.*", "kimi-k2-thinking*", "kimi-thinking*"),
        Abilities(unsupported=_SAMPLING),
        "Kimi's guide to migrating from OpenAI: sampling is fixed by the mode, leave it out",
    ),
    Service(
        ("api.mistral.ai",),
        ("*",),
        Abilities(system="first"),
        "error 3230 invalid_request_message_order, in zed #37021 and crush #279",
    ),
    Service(
        ("generativelanguage.googleapis.com", "*-aiplatform.googleapis.com"),
        ("*",),
        Abilities(schema_without=("$schema", "additionalProperties", "propertyNames")),
        "400 Unknown name ... Cannot find field, in pydantic-ai #3538, openswarm #24",
    ),
)


def assumed(url: str, model: str) -> Abilities:
    """What is assumed of `model` of the service at `url`."""
    host = (urlsplit(url).hostname or "").lower()
    for service in SERVICES:
        if any(fnmatchcase(host, each) for each in service.hosts) and any(
            fnmatchcase(model.lower(), each) for each in service.models
        ):
            return service.abilities
    return NOTHING
