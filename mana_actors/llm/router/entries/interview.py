"""What a service says of its models when it is asked, in the dialects of those that say more."""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

import msgspec

from mana_actors.json_values import JsonObject, as_list, as_object, as_text, objects_in
from mana_actors.llm.router.entries.abilities import NOTHING, Abilities

MOST_SHOWN = 20
"""Models of one service that are asked about one by one."""
_MOST_LISTED = 5000
_CONTEXTS = (
    "loaded_context_length",  # LM Studio
    "max_model_len",  # vLLM, SGLang
    "context_length",  # OpenRouter, Together, Moonshot
    "context_window",  # Groq
    "max_context_length",  # Mistral, LM Studio
    "inputTokenLimit",  # Gemini
)
_NUM_CTX = re.compile(r"^[ \t]*num_ctx[ \t]+([0-9]{1,9})[ \t]*$", re.MULTILINE)
_OUTPUTS = ("max_completion_tokens", "max_output_tokens", "outputTokenLimit")


class Asker(Protocol):
    """Puts one question to a service: its JSON object, or None where it has no answer.

    `path` begins where its API does (`/models`), with `at_root` where its host does (`/props`).
    """

    async def __call__(
        self, path: str, body: JsonObject | None = None, *, at_root: bool = False
    ) -> JsonObject | None: ...


class Listing(msgspec.Struct, frozen=True):
    """What a service told; `models` None = it gave no list."""

    models: dict[str, Abilities] | None = None

    def of(self, model: str) -> Abilities | None:
        """What was told of `model`, None where it is not in the list."""
        models = self.models or {}
        return models.get(model, models.get(f"{model}:latest"))

    def choice(self, wanted: str = "") -> tuple[str, str]:
        """The model to take of a service that gave a list, or what to tell who has to name one.

        `wanted` is taken whether it is in the list or not: some lists leave models out.
        """
        if wanted:
            latest = f"{wanted}:latest"
            return latest if wanted not in (self.models or ()) and self.of(wanted) else wanted, ""
        names = sorted(n for n in self.models or () if "embed" not in n and "rerank" not in n)
        if len(names) == 1:
            return names[0], ""
        if not names:
            return "", "it has no model; load one there first"
        asks = f"name one: MANA_LLM_MODEL={names[0]}"
        return "", f"it has {len(names)} models ({self.shown(names)}); {asks}"

    def shown(self, names: Sequence[str] = ()) -> str:
        """The models, or these of them, in one line."""
        all_names = list(names) or sorted(self.models or ())
        shown = ", ".join(all_names[:MOST_SHOWN])
        return (shown if len(all_names) <= MOST_SHOWN else f"{shown}, …") or "none"


async def interviewed(ask: Asker, wanted: Collection[str] = ()) -> Listing:
    """What a service says of its models, and in detail of those that are `wanted`, if any."""
    answer = await ask("/models")
    if answer is None or not isinstance(answer.get("data"), list | tuple):
        return Listing()
    entries = objects_in(answer["data"])[:_MOST_LISTED]
    told = {name: _told(each) for each in entries if (name := as_text(each.get("id")))}
    owners = {as_text(each.get("owned_by")) for each in entries}
    detailed = [name for name in wanted if name in told] or list(told)[:1]
    if "library" in owners:  # Ollama's list says nothing but names
        running = objects_in((await ask("/api/ps", at_root=True) or {}).get("models"))
        for name in detailed[:MOST_SHOWN]:
            shown = await ask("/api/show", {"model": name}, at_root=True)
            loaded = [each for each in running if name in (each.get("name"), each.get("model"))]
            told[name] = _shown(shown or {}, loaded)
    elif "llamacpp" in owners:
        # Its list tells what the model was trained with; what the server was started with counts.
        props = await ask("/props", at_root=True) or {}
        settings = as_object(props.get("default_generation_settings")) or {}
        context = _first((settings.get("n_ctx"), props.get("n_ctx")))
        if context is not None:
            told = {
                name: msgspec.structs.replace(each, context_tokens=context)
                for name, each in told.items()
            }
    return Listing(told)


def _told(entry: JsonObject) -> Abilities:
    """What one entry of a list of models says."""
    top, meta = as_object(entry.get("top_provider")) or {}, as_object(entry.get("meta")) or {}
    context = _first(
        [*(each.get(name) for each in (top, entry) for name in _CONTEXTS), meta.get("n_ctx_train")]
    )
    output = _first(each.get(name) for each in (top, entry) for name in _OUTPUTS)
    parameters = entry.get("supported_parameters")
    capabilities = as_object(entry.get("capabilities")) or {}
    architecture = as_object(entry.get("architecture")) or {}
    modalities = as_list(architecture.get("input_modalities"))
    tools, vision = capabilities.get("function_calling"), capabilities.get("vision")
    if not isinstance(tools, bool):
        tools = "tools" in as_list(parameters) if as_list(parameters) else None
    if not isinstance(vision, bool):
        vision = "image" in modalities if modalities else None
    return Abilities(context_tokens=context, max_output_tokens=output, tools=tools, vision=vision)


def _shown(shown: JsonObject, loaded: list[JsonObject]) -> Abilities:
    """What Ollama shows of a model; the context that is loaded, else set, else trained counts."""
    if not shown and not loaded:
        return NOTHING
    info = as_object(shown.get("model_info")) or {}
    numbers = [int(digits) for digits in _NUM_CTX.findall(as_text(shown.get("parameters")))]
    trained = [value for key, value in info.items() if key.endswith(".context_length")]
    context = _first([*(each.get("context_length") for each in loaded), *numbers, *trained])
    can = as_list(shown.get("capabilities"))
    return Abilities(
        context_tokens=context,
        tools="tools" in can if can else None,
        vision="vision" in can if can else None,
    )


def _first(values: Iterable[object]) -> int | None:
    """The first that is a number of tokens; nobody runs a model with more than ten million."""
    for value in values:
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 10_000_000:
            return value
    return None
