"""What the model router of this node is told: which models there are, and where its token lies."""

from pathlib import Path

from mana_actors.llm.router.aliases.alias_file import RegistryInvalid
from mana_actors.llm.router.registry_source import read_source
from mana_actors.llm.router.settings import SHIPPED, AliasFile, OneService, RouterSettings, Source
from state.secret_files import new_secret, write_new_secret
from supervisor.node.settings import Settings, SettingsError

TOKEN_FILE = "llm_token"  # noqa: S105 - a file's name
LAST_GOOD_FILE = "llm_aliases.last.yaml"
REHEARSAL_MODEL = "mana/rehearsal"


def wants_rehearsal(settings: Settings) -> bool:
    """Whether no model is configured, so that the built-in one plans."""
    return settings.llm_aliases is None and settings.llm_url is None


def model_in_words(settings: Settings) -> str:
    """What plans here, for operators."""
    return "rehearsal" if wants_rehearsal(settings) else settings.agent.model


def router_url(settings: Settings) -> str:
    """Where the router of this node answers, once its port is settled."""
    return f"http://127.0.0.1:{settings.llm_port}"


def token_file(settings: Settings) -> Path:
    """The file with the token that everybody shows to the router."""
    return Path(settings.secrets_dir, TOKEN_FILE)


def make_token(settings: Settings) -> None:
    """Make the token where there is none."""
    write_new_secret(token_file(settings), new_secret())


def router_settings(
    settings: Settings, version: str, rehearsal: tuple[str, Path] | None
) -> RouterSettings:
    """The settings of this node's router; `rehearsal` is the built-in model's URL and key file.

    Raises SettingsError for an alias file that is wrong, naming file, field and problem.
    """
    source: Source
    if settings.llm_aliases is not None:
        path = settings.llm_aliases
        source = AliasFile(path if path == SHIPPED else str(Path(path).absolute()))
    elif settings.llm_url is not None:
        key = settings.llm_api_key_file
        key_file = None if key is None else str(Path(key).absolute())
        source = OneService("service", settings.llm_url, settings.llm_url_exposure, key_file)
    else:
        assert rehearsal is not None
        url, rehearsal_key = rehearsal
        source = OneService("rehearsal", url, "local", str(rehearsal_key), REHEARSAL_MODEL)
    try:
        read_source(source)
    except RegistryInvalid as exc:
        problem = f"{settings.llm_aliases}: {exc.field}: {exc.problem}"
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
