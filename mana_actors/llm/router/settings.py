"""How a router runs. It names the files of secrets and holds none itself."""

from typing import Self

import msgspec

from mana_actors.llm.provider import Exposure
from mana_actors.llm.router.aliases.registry import Price

SHIPPED = "shipped"


class AliasFile(msgspec.Struct, frozen=True, tag="file"):
    """An alias file to follow; `shipped` means the packaged one."""

    path: str


class OneService(msgspec.Struct, frozen=True, tag="service"):
    """One service that gets every request, under the name the caller used.

    With `model` that name is sent instead; `awaited` means that it is silent yet, and that its list
    of models will say which. `has_list`: it has such a list, and is asked for it now and then.
    `url` is given with or without `/v1`.
    """

    name: str
    url: str
    exposure: Exposure
    key_file: str | None = None
    model: str = ""
    has_list: bool = False
    awaited: bool = False
    price: Price | None = None


class Connected(msgspec.Struct, frozen=True, tag="connected"):
    """A file with a `OneService` to follow as soon as there is one; `otherwise` is used until then.

    Whoever connects a model while the node runs writes it.
    """

    path: str
    otherwise: OneService


Source = AliasFile | OneService | Connected


class RouterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the router's process is told; `exposure` is the most any request may use."""

    port: int
    token_file: str
    secrets_dir: str
    last_good_file: str = ""  # what was read last and was valid, for a restart; "": not kept
    source: Source
    exposure: Exposure = "any"
    deadline_s: float = 120.0
    failure_threshold: int = 2
    unhealthy_backoff_s: float = 60.0
    metrics_open: bool = False
    otlp_endpoint: str | None = None
    version: str = ""

    @property
    def url(self) -> str:
        """The base address, on loopback only."""
        return f"http://127.0.0.1:{self.port}"

    def to_wire(self) -> bytes:
        """JSON, for the router's process."""
        return msgspec.json.encode(self)

    @classmethod
    def from_wire(cls, raw: bytes) -> Self:
        """The settings the node wrote with `to_wire`."""
        return msgspec.json.decode(raw, type=cls)
