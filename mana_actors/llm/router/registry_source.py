"""Where the registry comes from. A file that turns bad changes nothing."""

import asyncio
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from mana_actors.llm.router.aliases.alias_file import RegistryInvalid, read_registry
from mana_actors.llm.router.aliases.registry import Alias, ProviderEntry, Registry, Target
from mana_actors.llm.router.settings import SHIPPED, AliasFile, Connected, OneService, Source

log = logging.getLogger("mana.llm")

SHIPPED_FILE = Path(__file__).parent / "aliases" / "aliases.yaml"
WATCH_EVERY_S = 1.0
_VERSION = re.compile(r"v[0-9][a-z0-9]*")  # /v1, /v1beta/openai, /api/paas/v4
Fingerprint = tuple[int, int, int]


def read_source(source: Source) -> Registry:
    """The registry of a source; raises RegistryInvalid, whatever is wrong with its file."""
    if isinstance(source, OneService):
        return _of_one_service(source)
    if isinstance(source, Connected):
        return _of_one_service(connected_service(source.path) or source.otherwise)
    try:
        text = file_of(source).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise RegistryInvalid("file", f"cannot be read ({type(exc).__name__})") from None
    return read_registry(text)


def connected_service(path: str) -> OneService | None:
    """The service that was connected, None where none was; raises RegistryInvalid."""
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=OneService)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise RegistryInvalid("file", f"{path} cannot be read ({type(exc).__name__})") from None


def file_of(source: AliasFile) -> Path:
    """The file of a source; `shipped` is the packaged one."""
    return SHIPPED_FILE if source.path == SHIPPED else Path(source.path)


def _of_one_service(source: OneService) -> Registry:
    """The shipped aliases, and any other, all served by one provider."""
    shipped = read_registry(SHIPPED_FILE.read_text("utf-8"))
    provider = ProviderEntry(
        name=source.name,
        url=api_of(source.url),
        exposure=source.exposure,
        key_file=source.key_file,
        max_concurrent=1000,  # as many as runs may ask; the service says when it is too much
        deadline_s=3600.0,  # the caller's own deadline is the one that counts
        probe_path="/models" if source.has_list or source.awaited else None,
        price=source.price,
    )
    aliases = {
        name: Alias(name, alias.description, (Target(source.name, source.model or name),))
        for name, alias in shipped.aliases.items()
    }
    return Registry(
        aliases=aliases,
        default=shipped.default,
        providers={source.name: provider},
        otherwise=(Target(source.name, source.model),),
    )


def api_of(url: str) -> str:
    """Where the API of a service begins whose address is given with or without its version."""
    base = url.rstrip("/")
    is_whole = any(_VERSION.fullmatch(part) for part in urlsplit(base).path.split("/"))
    return base if is_whole else f"{base}/v1"


class LastGood:
    """A copy of the last valid alias file, for a router that restarts while the file is bad."""

    def __init__(self, copy: Path | None = None) -> None:
        self._copy = copy

    def first(self, source: Source) -> tuple[Registry, str]:
        """The registry to start with, and what is wrong with the file now ("" if nothing).

        Raises RegistryInvalid where there is no valid copy either.
        """
        try:
            registry = read_source(source)
        except RegistryInvalid as exc:
            if self._copy is None or not self._copy.exists():
                raise
            log.warning("aliases_of_before_used problem=%s", exc)
            return read_source(AliasFile(str(self._copy))), str(exc)
        self.keep(source)
        return registry, ""

    def keep(self, source: Source) -> None:
        """Copy a source that was valid, whole or not at all."""
        if self._copy is None or not isinstance(source, AliasFile):
            return
        try:
            text = file_of(source).read_text("utf-8")
            read_registry(text)
            unfinished = self._copy.with_name(f"{self._copy.name}.unfinished")
            unfinished.write_text(text, "utf-8")
            unfinished.replace(self._copy)
        except (OSError, UnicodeDecodeError, RegistryInvalid) as exc:
            log.warning("aliases_not_copied error=%s", type(exc).__name__)


class Loaded(msgspec.Struct, frozen=True):
    """Where the registry in force came from, and what is wrong with the file now ("" nothing)."""

    source: str
    loaded_at: datetime
    problem: str = ""


class RegistrySource:
    """Follows a source; `apply` puts a new registry in force, and is called with valid ones only.

    Made before the source is read first: what changes after that is seen. What follows never raises
    for a bad file.
    """

    def __init__(
        self,
        source: Source,
        apply: Callable[[Registry], None],
        *,
        last_good: LastGood | None = None,
        every_s: float = WATCH_EVERY_S,
    ) -> None:
        self._source, self._apply, self._every_s = source, apply, every_s
        self._last_good = last_good or LastGood()
        self._seen = self._fingerprint()
        is_service = isinstance(source, OneService)
        name = f"{source.name} {source.url}" if is_service else source.path
        self.state = Loaded(name, datetime.now(UTC))

    def first(self) -> Registry:
        """The registry to start with; raises RegistryInvalid where no valid copy is left."""
        registry, problem = self._last_good.first(self._source)
        self.state = msgspec.structs.replace(self.state, problem=problem)
        return registry

    async def reload(self) -> bool:
        """Read the source again; False if it is not valid, and then nothing changes."""
        self._seen = await asyncio.to_thread(self._fingerprint)
        try:
            registry = await asyncio.to_thread(read_source, self._source)
        except RegistryInvalid as exc:
            log.warning("aliases_not_reloaded problem=%s", exc)
            self.state = msgspec.structs.replace(self.state, problem=str(exc))
            return False
        await asyncio.to_thread(self._last_good.keep, self._source)
        self._apply(registry)
        self.state = Loaded(self.state.source, datetime.now(UTC))
        log.info("aliases_reloaded aliases=%d", len(registry.aliases))
        return True

    def adopt(self, source: OneService) -> None:
        """Follow another source from now on: the service has told its model."""
        self._source = source
        self._apply(read_source(source))
        self.state = Loaded(self.state.source, datetime.now(UTC))
        log.info("model_found provider=%s", source.name)

    def worry(self, problem: str) -> None:
        """Say what is wrong while what is in force stays in force."""
        self.state = msgspec.structs.replace(self.state, problem=problem)

    async def watch(self) -> None:
        """Reload whenever the file changes; never returns."""
        while True:
            await asyncio.sleep(self._every_s)
            if await asyncio.to_thread(self._fingerprint) != self._seen:
                await self.reload()

    def _fingerprint(self) -> Fingerprint | None:
        match self._source:
            case OneService():
                return None
            case Connected(path=path):
                followed = Path(path)
            case AliasFile():
                followed = file_of(self._source)
        try:
            status = followed.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino
