"""The table of aliases, providers and models: what a name stands for, and what it costs at most."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from math import ceil
from typing import Annotated

import msgspec
from msgspec import Meta

from mana_actors.llm.provider import Exposure
from mana_actors.llm.router.entries.abilities import NOTHING, Abilities, Manners
from mana_actors.llm.router.entries.services import assumed
from state.errors import TerminalError
from state.rules.exposure import lower_of

NAMESPACE = "mana/"
PROVIDER_OF_BARE_NAMES = "ollama"

Models = bool | tuple[str, ...]
"""All models, none, or those whose name fits a pattern such as `llama3.1*`."""
Positive = Annotated[float, Meta(gt=0, le=1e9)]
PerToken = Annotated[float, Meta(ge=0, le=1e9)]


class Target(msgspec.Struct, frozen=True, order=True):
    """One entry of a chain: a model as its provider names it (it may hold slashes)."""

    provider: str
    model: str

    @property
    def name(self) -> str:
        """The entry as the alias file writes it."""
        return f"{self.provider}/{self.model}"


class UnknownAlias(TerminalError):
    """A request named an alias that is not in the file, or nothing where there is no default."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return "no such model alias" if self.name else "model: missing, and no default alias"


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a million tokens cost in the file's currency, which is also one token in micro-units.

    `cached` is for tokens of a prompt that the provider had kept; None = as any other.
    """

    prompt: PerToken = 0.0
    completion: PerToken = 0.0
    cached: PerToken | None = None

    def micros(self, prompt: int, completion: int, total: int, cached: int = 0) -> int:
        """What an answer of so many tokens cost, rounded up; `cached` are part of `prompt`.

        Tokens that only `total` counts, such as hidden reasoning, cost what completions cost.
        """
        unseen, kept = max(0, total - prompt - completion), min(cached, prompt)
        return ceil(
            (prompt - kept) * self.prompt
            + kept * (self.prompt if self.cached is None else self.cached)
            + (completion + unseen) * self.completion
        )


class ProviderEntry(Manners, frozen=True, forbid_unknown_fields=True):
    """A provider: `/chat/completions` is appended to `url`, `exposure` is how far prompts go.

    `key_file` lies in the folder of secrets. `deadline_s` bounds the wait for an answer, or for a
    stream to begin; `probe_path`, appended to `url`, is its cheapest question; None = it has none.
    What it says of its models holds for those that say nothing themselves.
    """

    name: str
    url: str
    exposure: Exposure
    key_file: str | None = None
    max_concurrent: Annotated[int, Meta(ge=1, le=10_000)] = 8
    tools: Models | None = None
    vision: Models | None = None
    deadline_s: Positive = 120.0
    probe_path: str | None = "/models"
    price: Price | None = None


class ModelEntry(Manners, frozen=True, forbid_unknown_fields=True):
    """What the file says of one model; None = as its provider says."""

    bytes_per_token: Positive = 2.0
    price: Price | None = None
    tools: bool | None = None
    vision: bool | None = None


class Alias(msgspec.Struct, frozen=True):
    """A name for a purpose, and the models that serve it, best first."""

    name: str
    description: str
    chain: tuple[Target, ...]


_UNKNOWN_MODEL = ModelEntry()


class Registry(msgspec.Struct, frozen=True):
    """What the alias file says; `aliases` are sorted by name.

    `otherwise` is the chain of every alias that is not listed; a target of it without a model takes
    the name that was asked for.
    """

    aliases: Mapping[str, Alias]
    default: str | None = None
    providers: Mapping[str, ProviderEntry] = {}
    models: Mapping[Target, ModelEntry] = {}
    currency: str = "USD"
    otherwise: tuple[Target, ...] = ()

    @property
    def targets(self) -> list[Target]:
        """Every entry the alias file names, in a chain or with a price."""
        chained = {target for alias in self.aliases.values() for target in alias.chain}
        return sorted(chained | set(self.models))

    @property
    def names(self) -> list[str]:
        """Every name of the file, which may become a metric label: aliases and entries."""
        return [*self.aliases, *(target.name for target in self.targets)]

    def alias(self, model: object) -> str | None:
        """The alias that a request's `model` means, or None if it names a model itself."""
        name = model if isinstance(model, str) and model else self.default or ""
        return name if is_alias(name) or not name else None

    def chain(self, model: object) -> tuple[Target, ...]:
        """The targets for a request's `model`, best first; raises UnknownAlias."""
        name = self.alias(model)
        if name is None:
            return (direct_target(str(model)),)
        if name in self.aliases:
            return self.aliases[name].chain
        if not (name and self.otherwise):
            raise UnknownAlias(name)
        return tuple(Target(each.provider, each.model or name) for each in self.otherwise)

    def model(self, target: Target) -> ModelEntry:
        """What the file says of `target`, or the defaults."""
        return self.models.get(target, _UNKNOWN_MODEL)

    def exposure(self, target: Target) -> Exposure | None:
        """How far a prompt to `target` travels, or None if its provider is not described."""
        provider = self.providers.get(target.provider)
        return provider.exposure if provider else None

    def price(self, target: Target) -> Price | None:
        """What `target` costs, or None where the file does not say."""
        provider = self.providers.get(target.provider)
        return self.model(target).price or (provider.price if provider else None)

    def said(self, target: Target) -> tuple[Abilities, Abilities]:
        """What the file says of `target`: itself, and by its provider."""
        model, provider = self.model(target), self.providers.get(target.provider)
        own = _said(model, tools=model.tools, vision=model.vision)
        if provider is None:
            return own, NOTHING
        # A pattern that fits says yes. One that does not may be older than the model.
        tools, vision = (
            each if isinstance(each, bool) else _fits(each, target.model) or None
            for each in (provider.tools, provider.vision)
        )
        return own, _said(provider, tools=tools, vision=vision)

    def assumed(self, target: Target) -> tuple[Abilities, Abilities]:
        """What to go by where nobody says more: of its kind of service, and of other models."""
        provider = self.providers.get(target.provider)
        if provider is None:
            return NOTHING, NOTHING
        tools, vision = (
            False if isinstance(each, tuple) and not _fits(each, target.model) else None
            for each in (provider.tools, provider.vision)
        )
        kind = assumed(provider.url, target.model)
        return kind, Abilities(tools=tools, vision=vision)


def is_alias(model: object) -> bool:
    """Whether `model` lies in the namespace of aliases (`mana/…`), known or not."""
    return isinstance(model, str) and model.startswith(NAMESPACE)


def direct_target(model: str) -> Target:
    """`provider/model`, split at the first slash; a bare name is a local model's."""
    provider, slash, rest = model.partition("/")
    return Target(provider.lower(), rest) if slash else Target(PROVIDER_OF_BARE_NAMES, model)


def is_within(exposure: Exposure | None, most: Exposure) -> bool:
    """Whether a provider of `exposure` may see a prompt that may travel as far as `most`."""
    return exposure is not None and lower_of(exposure, most) == exposure


def _said(manners: Manners, *, tools: bool | None, vision: bool | None) -> Abilities:
    said = {name: getattr(manners, name) for name in Manners.__struct_fields__}
    return Abilities(**said, tools=tools, vision=vision)


def _fits(models: tuple[str, ...] | None, model: str) -> bool:
    return any(fnmatchcase(model, pattern) for pattern in models or ())
