"""What the model router of this node is told: which models there are, and where its token lies."""

import asyncio
from pathlib import Path

from msgspec.structs import replace

from mana_actors.errors import ProviderError
from mana_actors.llm.router.aliases.alias_file import RegistryInvalid
from mana_actors.llm.router.aliases.registry import Price, ProviderEntry, is_alias
from mana_actors.llm.router.registry_source import api_of, connected_service, read_source
from mana_actors.llm.router.settings import (
    SHIPPED,
    AliasFile,
    Connected,
    OneService,
    RouterSettings,
    Source,
)
from mana_actors.llm.router.upstream import HttpUpstream
from state.secret_files import kept_secret
from supervisor.node.settings import AGENT, Settings, SettingsError

TOKEN_FILE = "llm_token"  # noqa: S105 - a file's name
LAST_GOOD_FILE = "llm_aliases.last.yaml"
CONNECTED_FILE = "llm_connected.json"
REHEARSAL_MODEL = "mana/rehearsal"
SERVICE = "service"
FIND_S = 10.0


def wants_rehearsal(settings: Settings) -> bool:
    """Whether no model is configured, so that the built-in one plans until one is connected."""
    return settings.llm_aliases is None and settings.llm_url is None


def connected_file(settings: Settings) -> Path:
    """The file that says which service somebody connected while the node ran."""
    return Path(settings.data_dir, CONNECTED_FILE)


def connected(settings: Settings) -> OneService | None:
    """The service that plans in the rehearsal model's place; None for none, or a broken file."""
    if not wants_rehearsal(settings):
        return None
    try:
        return connected_service(str(connected_file(settings)))
    except RegistryInvalid:
        return None


def is_rehearsing(settings: Settings) -> bool:
    """Whether the built-in model plans."""
    return wants_rehearsal(settings) and connected(settings) is None


def model_in_words(settings: Settings) -> str:
    """What plans here, for operators."""
    service = connected(settings)
    if service is not None:
        return service.model or service.url
    return "rehearsal" if wants_rehearsal(settings) else settings.agent.model


def model_asked_for(settings: Settings) -> str:
    """The name by which agents ask; a model that was named for one service stands behind all."""
    has_file, named = settings.llm_aliases is not None, settings.agent.model
    return named if has_file or is_alias(named) else AGENT.model


def router_url(settings: Settings) -> str:
    """Where the router of this node answers, once its port is settled."""
    return f"http://127.0.0.1:{settings.llm_port}"


def token_file(settings: Settings) -> Path:
    """The file with the token that everybody shows to the router."""
    return Path(settings.secrets_dir, TOKEN_FILE)


def make_token(settings: Settings) -> None:
    """Make the token where there is none; raises SecretEmpty."""
    kept_secret(token_file(settings))


async def found_service(settings: Settings) -> tuple[OneService, str]:
    """The one service of MANA_LLM_URL with its model, and in a line how that was found.

    The model is the one that is named, else the only one in its list; a service that is silent is
    asked again by the router. Raises SettingsError where somebody has to name a model.
    """
    url, key_file = settings.llm_url or "", _key_file(settings)
    named = "" if is_alias(settings.agent.model) else settings.agent.model
    price = None
    if settings.llm_price_prompt is not None:
        completion = settings.llm_price_completion or 0.0
        price = Price(settings.llm_price_prompt, completion, settings.llm_price_cached)
    service = OneService(
        SERVICE, url, settings.llm_url_exposure, key_file, model=named, price=price
    )
    entry = ProviderEntry(SERVICE, api_of(url), settings.llm_url_exposure, key_file)
    upstream = HttpUpstream(entry, Path(settings.secrets_dir))
    try:
        async with asyncio.timeout(FIND_S):
            listing = await upstream.about([named] if named else [])
            answers = listing.models is not None or await upstream.probe()
    except (TimeoutError, ProviderError):
        answers, listing = False, None
    finally:
        await upstream.aclose()
    if listing is None or not answers:
        silent = f"{url} is silent; it is asked again and again"
        return replace(service, awaited=not named), silent
    if listing.models is None:  # nothing to choose from: it gets the names that callers use
        return service, f"{url} has no list of models and gets {named or 'every name as it is'}"
    if not named and settings.agent.model in listing.models:  # it knows our names: a router
        return replace(service, has_list=True), f"{url} knows {settings.agent.model} itself"
    model, problem = listing.choice(named)
    if problem:
        raise SettingsError("MANA_LLM_URL", f"{url}: {problem}")
    how = "as named" if named else "its only model"
    if listing.of(model) is None:
        how = f"as named, though its list has {listing.shown()}"
    return replace(service, model=model, has_list=True), f"{url}: {model}, {how}"


def _key_file(settings: Settings) -> str | None:
    key = settings.llm_api_key_file
    return None if key is None else str(Path(key).absolute())


def router_settings(
    settings: Settings,
    version: str,
    rehearsal: tuple[str, Path] | None,
    service: OneService | None = None,
) -> RouterSettings:
    """The settings of this node's router; `rehearsal` is the built-in model's URL and key file.

    Raises SettingsError for an alias file that is wrong, naming file, field and problem.
    """
    source: Source
    if settings.llm_aliases is not None:
        path = settings.llm_aliases
        source = AliasFile(path if path == SHIPPED else str(Path(path).absolute()))
    elif service is not None:
        source = service
    else:
        assert rehearsal is not None
        url, rehearsal_key = rehearsal
        built_in = OneService(
            "rehearsal", url, "local", str(rehearsal_key), REHEARSAL_MODEL, price=Price()
        )
        source = Connected(str(connected_file(settings)), built_in)
    try:
        read_source(source)
    except RegistryInvalid as exc:
        named = settings.llm_aliases or CONNECTED_FILE
        problem = f"{named}: {exc.field}: {exc.problem}"
        raise SettingsError("MANA_LLM_ALIASES", problem) from exc
    return RouterSettings(
        port=settings.llm_port,
        token_file=str(token_file(settings)),
        secrets_dir=settings.secrets_dir,
        last_good_file=str(Path(settings.data_dir, LAST_GOOD_FILE)),
        source=source,
        exposure=settings.agent.exposure,
        deadline_s=settings.agent.call_deadline_s,
        failure_threshold=settings.llm_failure_threshold,
        unhealthy_backoff_s=settings.llm_unhealthy_backoff_s,
        metrics_open=settings.metrics_open,
        otlp_endpoint=settings.otlp_endpoint,
        version=version,
    )
