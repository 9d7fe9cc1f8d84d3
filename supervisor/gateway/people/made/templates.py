"""Agents to begin with."""

from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import answer
from supervisor.custody.vaults import Caller
from supervisor.gateway.answers import query
from supervisor.gateway.people.owners import Owners


class AgentTemplate(msgspec.Struct, frozen=True, rename="camel"):
    """What an agent of this kind is at first."""

    name: str
    role: str
    avatar: str
    system_prompt: str


@cache
def templates() -> dict[str, AgentTemplate]:
    """All of them by what they are called."""
    file = files("supervisor.gateway.people.made").joinpath("templates.json")
    return msgspec.json.decode(file.read_bytes(), type=dict[str, AgentTemplate])


async def get_templates(request: Request, caller: Caller, owners: Owners) -> Response:
    """Agents to begin with, by what they are called."""
    del caller, owners
    query(request, ())
    told: dict[str, Any] = {name: msgspec.to_builtins(one) for name, one in templates().items()}
    return answer({"templates": told})
