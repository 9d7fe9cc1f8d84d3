"""Reading the alias file. Any mistake in it is one error that names the place."""

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
    ProviderEntry,
    Registry,
    Target,
    direct_target,
    is_alias,
)
from mana_actors.llm.router.entries.abilities import Manners
from mana_actors.llm.router.entries.fitting import VITAL
from state.errors import TerminalError

_T = TypeVar("_T")


class RegistryInvalid(TerminalError):
    """The alias file cannot be used; `field` is where, `problem` what is wrong, in one line."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field, self.problem = field, problem

    def __str__(self) -> str:
        return f"alias file, {self.field}: {self.problem}"


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


def read_registry(text: str) -> Registry:
    """The registry that `text` (YAML) describes; raises RegistryInvalid."""
    try:
        parsed = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise RegistryInvalid(f"line {line}", _one_line(exc.problem or "not YAML")) from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        raise RegistryInvalid("file", "not YAML") from None
    root = _mapping(parsed, "file")
    providers = _providers(root.get("providers"))
    aliases = _aliases(root.get("aliases"))
    models: dict[Target, ModelEntry] = {}
    described = root.get("models")
    for name, each in _mapping({} if described is None else described, "models").items():
        target, body = _target(name, f"models.{name}"), _mapping(each, f"models.{name}")
        models[target] = _converted(body, ModelEntry, f"models.{name}")
    named = [(f"aliases.{name}.chain", each) for name in aliases for each in aliases[name].chain]
    for field, target in [*named, *(("models", target) for target in models)]:
        if providers and target.provider not in providers:  # once the file describes any, all
            raise RegistryInvalid(field, f"{target.name}: no such provider")
    default = root.get("default")
    if default is not None and (not isinstance(default, str) or default not in aliases):
        raise RegistryInvalid("default", "names no alias of this file")
    currency = root.get("currency")
    currency = "USD" if currency is None else _text(currency, "currency")
    return Registry(aliases, default, providers, models, currency)


def _providers(value: Any) -> dict[str, ProviderEntry]:
    found: dict[str, ProviderEntry] = {}
    for name, described in _mapping({} if value is None else value, "providers").items():
        field = f"providers.{name}"
        word = str(name) if isinstance(cast("object", name), str) else ""  # YAML has other keys
        is_word = word.isascii() and word.replace("-", "").replace("_", "").isalnum()
        if not is_word or len(word) > 40 or word.lower() == NAMESPACE[:-1]:
            raise RegistryInvalid(field, "a name is letters, digits, '-' and '_', and not 'mana'")
        body = {**_mapping(described, field), "name": word.lower()}
        entry = _converted(body, ProviderEntry, field)
        try:
            url = urlsplit(entry.url)
        except ValueError:
            url = urlsplit("")
        if url.scheme not in ("http", "https") or not url.hostname or url.password:
            raise RegistryInvalid(f"{field}.url", "needs http(s)://host without a password")
        key_file = PurePosixPath(entry.key_file or "key")
        if entry.key_file == "" or key_file.is_absolute() or ".." in key_file.parts:
            raise RegistryInvalid(f"{field}.key_file", "needs a path inside the folder of secrets")
        if entry.name in found:
            raise RegistryInvalid("providers", "a name is repeated in another case")
        found[entry.name] = entry
    return found


def _aliases(value: Any) -> dict[str, Alias]:
    found: dict[str, Alias] = {}
    for name, described in _mapping(value, "aliases").items():
        field = f"aliases.{name}"
        word = name.removeprefix(NAMESPACE) if is_alias(name) else ""
        if not word or "/" in word:
            raise RegistryInvalid(field, f"a name is {NAMESPACE}<one word>")
        body = _mapping(described, field)
        description = _text(body.get("description", ""), f"{field}.description")
        chain = body.get("chain")
        if not isinstance(chain, list) or not chain:
            raise RegistryInvalid(f"{field}.chain", "needs a list of provider/model")
        targets = enumerate(cast("list[Any]", chain))
        found[name] = Alias(
            name, description, tuple(_target(each, f"{field}.chain[{n}]") for n, each in targets)
        )
    if not found:
        raise RegistryInvalid("aliases", "needs at least one")
    return dict(sorted(found.items()))


def _target(value: Any, field: str) -> Target:
    entry = value.strip() if isinstance(value, str) else ""
    if is_alias(entry.lower()):
        raise RegistryInvalid(field, "an alias cannot stand for another alias")
    target = direct_target(entry)
    if "/" not in entry or not target.provider or not target.model:
        raise RegistryInvalid(field, "needs the form provider/model")
    return target


def _mapping(value: Any, field: str) -> JsonObject:
    if not isinstance(value, dict):
        raise RegistryInvalid(field, "needs to be a mapping")
    return dict(cast("JsonObject", value))


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise RegistryInvalid(field, "needs to be text")
    return value.strip()


def _converted(value: Any, kind: type[_T], field: str) -> _T:
    try:
        found = msgspec.convert(value, kind)
    except msgspec.ValidationError as exc:
        problem, _, path = str(exc).partition(" - at `$")
        raise RegistryInvalid(field + path.rstrip("`"), _one_line(problem)) from None
    vital = VITAL.intersection((isinstance(found, Manners) and found.unsupported) or ())
    if vital:
        raise RegistryInvalid(f"{field}.unsupported", f"no request goes without {min(vital)}")
    return found


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
