from __future__ import annotations

import pickle
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mana_actors.llm.router.aliases.alias_file import RegistryInvalid, read_registry
from mana_actors.llm.router.aliases.knowledge import Knowledge
from mana_actors.llm.router.aliases.registry import (
    Price,
    ProviderEntry,
    Registry,
    Target,
    UnknownAlias,
    direct_target,
    is_alias,
)
from mana_actors.llm.router.entries.abilities import Abilities

SHIPPED = Path(__file__).parents[2] / "mana_actors" / "llm" / "router" / "aliases" / "aliases.yaml"
CHAIN = "aliases: {mana/x: {chain: [groq/a, ollama/b]}}\n"
OLLAMA = "ollama: {url: 'http://o/v1', exposure: local}"
PROVIDERS = "providers: {" + OLLAMA + ", groq: {url: 'https://g', exposure: any}}\n"
FULL = (
    CHAIN
    + "default: mana/x\ncurrency: EUR\n"
    + PROVIDERS
    + "models:\n"
    + "  groq/a: {context: 1000, bytes_per_token: 3, price: {prompt: 0.5, completion: 2}}\n"
    + "  ollama/b: {context: 2000, price: {prompt: 0.1}}\n"
)
BOTH = frozenset({"groq", "ollama"})


def of(registry: Registry, name: str) -> Abilities:
    return Knowledge(registry, lambda: 0.0).of(direct_target(name)).abilities


def provider(fields: str) -> str:
    return CHAIN + "providers: {" + OLLAMA + ", groq: " + fields + "}"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "file"),
        ("- a", "file"),
        ("x: 2020-99-99", "file"),
        ("[" * 5000, "file"),
        ("\x00", "file"),
        ("aliases: [unclosed", "line 1"),
        ("? [a]\n: b", "line 1"),
        ("a: !!python/name:os.system ''", "line 1"),
        ("aliases: {}\naliases: {}", "line 2"),
        ("aliases:\n  mana/x:\n    chain: [a/b]\n    chain: [c/d]", "line 4"),
        ("default: mana/x", "aliases"),
        ("aliases: {}", "aliases"),
        ("aliases: {fast: {chain: [a/b]}}", "aliases.fast"),
        ("aliases: {mana/: {chain: [a/b]}}", "aliases.mana/"),
        ("aliases: {mana/a/b: {chain: [a/b]}}", "aliases.mana/a/b"),
        ("aliases: {5: {chain: [a/b]}}", "aliases.5"),
        ("aliases: {mana/x: [a/b]}", "aliases.mana/x"),
        ("aliases: {mana/x: {description: 5, chain: [a/b]}}", "aliases.mana/x.description"),
        ("aliases: {mana/x: {}}", "aliases.mana/x.chain"),
        ("aliases: {mana/x: {chain: []}}", "aliases.mana/x.chain"),
        ("aliases: {mana/x: {chain: a/b}}", "aliases.mana/x.chain"),
        ("aliases: {mana/x: {chain: [a/b, gpt]}}", "aliases.mana/x.chain[1]"),
        ("aliases: {mana/x: {chain: [1]}}", "aliases.mana/x.chain[0]"),
        ("aliases: {mana/x: {chain: [/b]}}", "aliases.mana/x.chain[0]"),
        ("aliases: {mana/x: {chain: [a/]}}", "aliases.mana/x.chain[0]"),
        ("aliases: {mana/x: {chain: [mana/y]}}", "aliases.mana/x.chain[0]"),
        ("aliases: {mana/x: {chain: [Mana/y]}}", "aliases.mana/x.chain[0]"),
        (CHAIN + "default: mana/y", "default"),
        (CHAIN + "default: 5", "default"),
        (CHAIN + "default: {}", "default"),
        (CHAIN + "currency: 5", "currency"),
        (CHAIN + "providers: []", "providers"),
        (provider("{url: 'https://g'}"), "providers.groq"),
        (provider("{exposure: any}"), "providers.groq"),
        (provider("{url: 'https://g', exposure: all}"), "providers.groq.exposure"),
        (provider("{url: 'ftp://g', exposure: any}"), "providers.groq.url"),
        (provider("{url: 'http://[g', exposure: any}"), "providers.groq.url"),
        (provider("{url: 'https://a:b@g', exposure: any}"), "providers.groq.url"),
        (provider("{url: 'https://g', exposure: any, key_file: ../k}"), "providers.groq.key_file"),
        (provider("{url: 'https://g', exposure: any, key_file: /k}"), "providers.groq.key_file"),
        (provider("{url: 'https://g', exposure: any, key_file: ''}"), "providers.groq.key_file"),
        (
            provider("{url: 'https://g', exposure: any, max_concurrent: 0}"),
            "providers.groq.max_concurrent",
        ),
        (
            provider("{url: 'https://g', exposure: any, deadline_s: .inf}"),
            "providers.groq.deadline_s",
        ),
        (provider("{url: 'https://g', exposure: any, tools: x}"), "providers.groq.tools"),
        (provider("{url: 'https://g', exposure: any, key: secret}"), "providers.groq"),
        (CHAIN + "providers: {mana: {url: 'https://g', exposure: any}}", "providers.mana"),
        (CHAIN + "providers: {a/b: {url: 'https://g', exposure: any}}", "providers.a/b"),
        (
            "aliases: {mana/x: {chain: [grok/a]}}\n" + PROVIDERS,
            "aliases.mana/x.chain",
        ),
        (CHAIN + PROVIDERS + "models: {nope/a: {}}", "models"),
        (CHAIN + "providers: {" + OLLAMA + ", O" + OLLAMA[1:] + "}", "providers"),
        (CHAIN + "models: {a: {}}", "models.a"),
        (CHAIN + "models: {groq/a: {context: 0}}", "models.groq/a.context"),
        (CHAIN + "models: {groq/a: {bytes_per_token: 0}}", "models.groq/a.bytes_per_token"),
        (CHAIN + "models: {groq/a: {price: {prompt: -1}}}", "models.groq/a.price.prompt"),
        (CHAIN + "models: {groq/a: {price: 5}}", "models.groq/a.price"),
        (CHAIN + "models: {groq/a: {cost: 5}}", "models.groq/a"),
        (CHAIN + "models: {groq/a: {price: {cached: -1}}}", "models.groq/a.price.cached"),
        (CHAIN + "models: {groq/a: {limit_name: max}}", "models.groq/a.limit_name"),
        (CHAIN + "models: {groq/a: {max_output: 0}}", "models.groq/a.max_output"),
        (CHAIN + "models: {groq/a: {unsupported: x}}", "models.groq/a.unsupported"),
        (CHAIN + "models: {groq/a: {unsupported: [A b]}}", "models.groq/a.unsupported[0]"),
        (CHAIN + "models: {groq/a: {unsupported: [tools]}}", "models.groq/a.unsupported"),
        (CHAIN + "models: {groq/a: {system: last}}", "models.groq/a.system"),
        (CHAIN + "models: {groq/a: {schema_without: 1}}", "models.groq/a.schema_without"),
        (CHAIN + "models: {groq/a: {call_ids: long}}", "models.groq/a.call_ids"),
        (CHAIN + "models: {groq/a: {reasoning_effort: much}}", "models.groq/a.reasoning_effort"),
        (provider("{url: 'https://g', exposure: any, context: 0}"), "providers.groq.context"),
        (provider("{url: 'https://g', exposure: any, price: 1}"), "providers.groq.price"),
        (
            provider("{url: 'https://g', exposure: any, unsupported: [messages]}"),
            "providers.groq.unsupported",
        ),
        ("aliases: {mana/x: {description: null, chain: [a/b]}}", "aliases.mana/x.description"),
    ],
)
def test_a_wrong_file_is_one_error_that_names_its_place(text: str, field: str):
    with pytest.raises(RegistryInvalid) as caught:
        read_registry(text)
    assert caught.value.field == field
    assert "\n" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301


@given(st.text(max_size=60) | st.text("aliases:{}[]mana/x- \n\t&*!?|>'\"#%@", max_size=60))
def test_no_text_at_all_does_anything_but_that(text: str):
    with suppress(RegistryInvalid):
        read_registry(text)


def test_a_file_of_aliases_only_is_enough():
    registry = read_registry("aliases: {mana/b: {chain: [' Groq/L/8b ']}, mana/a: {chain: [c/d]}}")
    assert list(registry.aliases) == ["mana/a", "mana/b"]
    assert registry.aliases["mana/b"].chain == (Target("groq", "L/8b"),)
    assert (registry.default, registry.providers, registry.currency) == (None, {}, "USD")


def test_a_name_means_its_chain_and_a_model_itself():
    registry = read_registry(FULL)
    chain = (Target("groq", "a"), Target("ollama", "b"))
    assert registry.chain("mana/x") == registry.chain("") == registry.chain(None) == chain
    assert registry.chain("GROQ/Big/m") == (Target("groq", "Big/m"),)
    assert registry.chain("gemma3:4b") == (Target("ollama", "gemma3:4b"),)
    assert registry.alias(None) == "mana/x"
    assert registry.alias("groq/a") is None


@pytest.mark.parametrize("name", ["mana/y", "mana/X", "mana/"])
def test_an_unknown_alias_is_no_model(name: str):
    assert is_alias(name)
    with pytest.raises(UnknownAlias) as caught:
        read_registry(FULL).chain(name)
    assert pickle.loads(pickle.dumps(caught.value)).name == name  # noqa: S301


def test_without_a_default_a_request_needs_a_model():
    with pytest.raises(UnknownAlias):
        read_registry(CHAIN).chain(None)


def test_a_catch_all_serves_every_other_alias_under_its_own_name():
    registry = Registry({}, otherwise=(Target("service", ""), Target("rehearsal", "m")))
    assert registry.chain("mana/y") == (Target("service", "mana/y"), Target("rehearsal", "m"))
    with pytest.raises(UnknownAlias):
        registry.chain(None)


def test_tokens_that_only_the_total_counts_cost_what_completions_cost():
    price = Price(prompt=0.5, completion=2.0)
    assert price.micros(prompt=3, completion=2, total=5) == 6  # 5.5, rounded up
    assert price.micros(prompt=3, completion=2, total=15) == 26
    assert price.micros(prompt=3, completion=2, total=0) == 6


def test_what_a_provider_had_kept_of_a_prompt_costs_its_own_price():
    price = Price(prompt=2.0, completion=10.0, cached=0.5)
    assert price.micros(prompt=100, completion=1, total=101, cached=80) == 40 + 40 + 10
    assert price.micros(prompt=100, completion=1, total=101, cached=999) == 50 + 10
    assert Price(prompt=2.0).micros(prompt=100, completion=0, total=100, cached=80) == 200


def test_facts_are_the_worst_of_what_may_serve():
    registry = read_registry(FULL)
    facts = Knowledge(registry, lambda: 0.0).facts("mana/x", "any", BOTH)
    assert (facts.context_tokens, facts.bytes_per_token) == (1000, 2.0)
    assert (facts.micros_per_prompt_token, facts.micros_per_completion_token) == (0.5, 2.0)


@pytest.mark.parametrize(
    ("exposure", "there", "context"),
    [
        ("local", BOTH, 2000),
        ("any", frozenset({"ollama"}), 2000),
        ("any", frozenset({"groq"}), 1000),
        ("any", frozenset[str](), 1000),
        ("local", frozenset({"groq"}), 2000),
    ],
)
def test_facts_leave_out_who_may_not_or_cannot_serve(
    exposure: str, there: frozenset[str], context: int
):
    facts = Knowledge(read_registry(FULL), lambda: 0.0).facts("mana/x", exposure, there)  # pyright: ignore[reportArgumentType]
    assert facts.context_tokens == context


def test_abilities_come_from_the_model_then_from_its_provider():
    registry = read_registry(
        "aliases: {mana/x: {chain: [o/a]}}\n"
        "providers: {o: {url: 'http://o', exposure: local, tools: ['*qwen3*'], vision: false}}\n"
        "models: {o/eyes: {vision: true}, o/qwen3-old: {tools: false}}\n"
    )
    tools = {m: of(registry, f"o/{m}").tools for m in ("qwen3:8b", "llava", "qwen3-old")}
    assert tools == {"qwen3:8b": True, "llava": False, "qwen3-old": False}
    assert of(registry, "o/eyes").vision
    assert of(registry, "o/a").vision is False
    assert of(registry, "unknown/a").vision is None


def test_the_shipped_file_loads_and_each_alias_has_known_models():
    registry = read_registry(SHIPPED.read_text("utf-8"))
    assert set(registry.aliases) == {
        f"mana/{name}" for name in ("fast-text", "long-form", "structured", "reasoning", "vision")
    }
    assert registry.default == "mana/fast-text"
    named = {target for alias in registry.aliases.values() for target in alias.chain}
    assert named <= set(registry.models)
    local = {name for name, entry in registry.providers.items() if entry.exposure == "local"}
    assert local == {"ollama", "vllm"}
    assert of(registry, "ollama/qwen2.5:7b").tools
    assert of(registry, "ollama/gemma3:12b").tools is False


def test_an_entry_holds_what_the_file_says():
    entry = read_registry(
        "aliases: {mana/x: {chain: [A/b]}}\n"
        "providers: {A: {url: 'http://a', exposure: eu, key_file: keys/a, tools: [x*]}}"
    ).providers["a"]
    assert entry == ProviderEntry("a", "http://a", "eu", "keys/a", tools=("x*",))
