"""What may be said of an entry, and what follows from several who say something."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Teller = Literal["learnt", "file", "asked", "assumed"]
"""Who said it: a refusal, the alias file, the service itself, or what is known of its kind."""

TokenLimit = Literal["max_tokens", "max_completion_tokens", "max_output_tokens"]
SystemPlace = Literal["anywhere", "first", "none"]
CallIds = Literal["any", "short"]
ReasoningKey = Literal["reasoning", "reasoning_content"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
Parameter = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,39}$")]
Keyword = Annotated[str, Meta(pattern=r"^[$A-Za-z][A-Za-z0-9_-]{0,39}$")]
Tokens = Annotated[int, Meta(ge=1, le=1_000_000_000)]

ASSUMED_CONTEXT = 200_000
"""The context of a model of which nobody said anything."""


class Manners(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={"context_tokens": "context", "max_output_tokens": "max_output"},
):
    """How an entry wants to be asked; None = nothing is said.

    `limit_name` is its word for the most output; `unsupported` are keys of a request that it
    refuses; `reasoning_in` is the key in which each turn with calls must say something, also one
    that another model said; `system` is where it takes system messages; `call_ids` are the ids of
    tool calls that it takes, all or those of nine letters and digits; `schema_without` are words of
    JSON schema that it refuses in tools and formats; `reasoning_effort` is asked for where a caller
    does not.
    """

    context_tokens: Tokens | None = None
    max_output_tokens: Tokens | None = None
    limit_name: TokenLimit | None = None
    unsupported: tuple[Parameter, ...] | None = None
    system: SystemPlace | None = None
    call_ids: CallIds | None = None
    reasoning_in: ReasoningKey | None = None
    schema_without: tuple[Keyword, ...] | None = None
    reasoning_effort: Effort | None = None


class Abilities(Manners, frozen=True, kw_only=True):
    """The same with what it understands: tools, and images."""

    tools: bool | None = None
    vision: bool | None = None

    @property
    def context(self) -> int:
        """Its context in tokens."""
        return self.context_tokens or ASSUMED_CONTEXT


FIELDS = tuple(field.name for field in msgspec.structs.fields(Abilities))
LISTS = frozenset({"unsupported", "schema_without"})
NOTHING = Abilities()


class Profile(msgspec.Struct, frozen=True):
    """What holds of an entry, and who said each of it."""

    abilities: Abilities = NOTHING
    told_by: dict[str, Teller] = {}


def profile_of(told: Iterable[tuple[Teller, Abilities]]) -> Profile:
    """What holds where several speak: whoever comes first is right.

    A lesson only adds to a list of others, because a refusal names one thing at a time.
    """
    found: dict[str, Any] = {}
    told_by: dict[str, Teller] = {}
    for teller, abilities in told:
        for field in FIELDS:
            value = getattr(abilities, field)
            if value is None:
                continue
            if field not in found:
                found[field], told_by[field] = value, teller
            elif field in LISTS and told_by[field] == "learnt":
                found[field] = tuple(dict.fromkeys((*found[field], *value)))
    return Profile(Abilities(**found), told_by)
