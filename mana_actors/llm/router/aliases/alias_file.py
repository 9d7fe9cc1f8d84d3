"""Reading the alias file: every mistake in it is one error that names its place."""

from collections.abc import Hashable
from pathlib import PurePosixPath
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import msgspec
import yaml

from mana_actors.json_values import JsonObject
from mana_actors.llm.router.aliases.registry import (
    NAMESPACE,
    Alias,
    ModelEntry,
    Price,
    ProviderEntry,
    Registry,
    UnknownAlias,
    direct_target,
    is_alias,
)
from mana_actors.llm.router.contract import Target
from state.errors import TerminalError

__all__ = [
    "Alias",
    "ModelEntry",
    "ProviderEntry",
    "Registry",
    "RegistryInvalid",
    "Target",
    "UnknownAlias",
    "is_alias",
    "read_registry",
]

_T = TypeVar("_T")


class RegistryInvalid(TerminalError):
    """The alias file cannot be used; `field` is where, `problem` what is wrong, in one line."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field, self.problem = field, problem

    def __str__(self) -> str:
        return f"alias file, {self.field}: {self.problem}"


def read_registry(text: str) -> Registry:
    """The registry that `text` (YAML) describes; raises RegistryInvalid."""
    root = _mapping(_parsed(text), "file")
    providers = _providers(root.get("providers"))
    aliases = _aliases(root.get("aliases"))
    models = _models(root.get("models"))
    _check_providers(aliases, models, providers)
    return Registry(
        aliases,
        _default(root.get("default"), aliases),
        providers,
        models,
        _text(root.get("currency"), "currency", "USD"),
    )


# --- YAML ---------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Plain data only, and a key that is written twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = cast("object", self.construct_object(key_node, deep=True))
            if not isinstance(key, Hashable):
                continue  # PyYAML refuses it itself
            if key in seen:
                problem = f"key {str(key)[:60]!r} is repeated"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _parsed(text: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise RegistryInvalid(f"line {line}", _one_line(exc.problem or "not YAML")) from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        raise RegistryInvalid("file", "not YAML") from None


# --- aliases ------------------------------------------------------------------------------------


def _aliases(value: Any) -> dict[str, Alias]:
    bodies = _mapping(value, "aliases")
    if not bodies:
        raise RegistryInvalid("aliases", "needs at least one")
    aliases = [_alias(name, body) for name, body in bodies.items()]
    return {alias.name: alias for alias in sorted(aliases, key=lambda each: each.name)}


def _alias(name: object, value: Any) -> Alias:
    rest = name.removeprefix(NAMESPACE) if isinstance(name, str) and is_alias(name) else ""
    if not isinstance(name, str) or not rest or "/" in rest:
        raise RegistryInvalid(f"aliases.{name}", f"a name is {NAMESPACE}<one word>")
    body = _mapping(value, f"aliases.{name}")
    return Alias(
        name,
        _text(body.get("description"), f"aliases.{name}.description", ""),
        _chain(body.get("chain"), f"aliases.{name}.chain"),
    )


def _chain(value: Any, field: str) -> tuple[Target, ...]:
    if not isinstance(value, list) or not value:
        raise RegistryInvalid(field, "needs a list of provider/model")
    entries = enumerate(cast("list[Any]", value))
    return tuple(_target(entry, f"{field}[{place}]") for place, entry in entries)


def _target(value: Any, field: str) -> Target:
    entry = value.strip() if isinstance(value, str) else ""
    if is_alias(entry.lower()):
        raise RegistryInvalid(field, "an alias cannot stand for another alias")
    target = direct_target(entry)
    if "/" not in entry or not target.provider or not target.model:
        raise RegistryInvalid(field, "needs the form provider/model")
    return target


def _default(value: Any, aliases: dict[str, Alias]) -> str | None:
    if value is not None and (not isinstance(value, str) or value not in aliases):
        raise RegistryInvalid("default", "names no alias of this file")
    return value


# --- providers and models -----------------------------------------------------------------------


class _PricePair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a million tokens cost, which is also what one token costs in micro-units."""

    prompt: Price = 0.0
    completion: Price = 0.0


def _providers(value: Any) -> dict[str, ProviderEntry]:
    bodies = _mapping({} if value is None else value, "providers")
    found = [_provider(name, body) for name, body in bodies.items()]
    if len({entry.name for entry in found}) != len(found):
        raise RegistryInvalid("providers", "a name is repeated in another case")
    return {entry.name: entry for entry in found}


def _provider(name: object, value: Any) -> ProviderEntry:
    field = f"providers.{name}"
    if not isinstance(name, str) or not _is_word(name) or name.lower() == NAMESPACE[:-1]:
        raise RegistryInvalid(field, "a name is letters, digits, '-' and '_', and not 'mana'")
    body = _mapping(value, field)
    entry = _converted({**body, "name": name.lower()}, ProviderEntry, field)
    if not _is_address(entry.url):
        raise RegistryInvalid(f"{field}.url", "needs http(s)://host without a password")
    if not _is_inside(entry.key_file):
        raise RegistryInvalid(f"{field}.key_file", "needs a path inside the folder of secrets")
    return entry


def _models(value: Any) -> dict[Target, ModelEntry]:
    bodies = _mapping({} if value is None else value, "models")
    return {
        _target(name, f"models.{name}"): _model(body, f"models.{name}")
        for name, body in bodies.items()
    }


def _model(value: Any, field: str) -> ModelEntry:
    body = _mapping(value, field)
    price = _converted(body.pop("price", {}), _PricePair, f"{field}.price")
    known = {
        "micros_per_prompt_token": price.prompt,
        "micros_per_completion_token": price.completion,
    }
    if "context" in body:
        known["context_tokens"] = body.pop("context")
    return _converted(body | known, ModelEntry, field)


def _check_providers(
    aliases: dict[str, Alias],
    models: dict[Target, ModelEntry],
    providers: dict[str, ProviderEntry],
) -> None:
    """Every provider that is named is described, once the file describes any."""
    named = [
        (f"aliases.{alias.name}.chain", target)
        for alias in aliases.values()
        for target in alias.chain
    ]
    for field, target in [*named, *(("models", target) for target in models)]:
        if providers and target.provider not in providers:
            raise RegistryInvalid(field, f"{target.name}: no such provider")


# --- values -------------------------------------------------------------------------------------


def _mapping(value: Any, field: str) -> JsonObject:
    if not isinstance(value, dict):
        raise RegistryInvalid(field, "needs to be a mapping")
    return dict(cast("JsonObject", value))


def _text(value: Any, field: str, missing: str) -> str:
    if value is not None and not isinstance(value, str):
        raise RegistryInvalid(field, "needs to be text")
    return missing if value is None else value.strip()


def _converted(value: Any, kind: type[_T], field: str) -> _T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as exc:
        problem, _, path = str(exc).partition(" - at `$")
        raise RegistryInvalid(field + path.rstrip("`"), _one_line(problem)) from None


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]


def _is_word(name: str) -> bool:
    return name.isascii() and name.replace("-", "").replace("_", "").isalnum() and len(name) <= 40


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.password


def _is_inside(key_file: str | None) -> bool:
    path = PurePosixPath(key_file or "key")
    return key_file != "" and not path.is_absolute() and ".." not in path.parts
