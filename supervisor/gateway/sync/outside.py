"""What other services of a deployment say of a person: whether sync is paid for, and their spaces.

Both are asked only where they are named. What they say is kept for five minutes; a billing service
that does not answer stops nobody, and one of memberships that does not answer names no space.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

import httpx2
import msgspec
from msgspec import structs

from mana_actors.clients.answers import AnswerUnreadable, bounded_answer
from mana_actors.http.paths import path_of
from supervisor.custody.vaults import Caller
from supervisor.node.credentials import read_service_key
from supervisor.node.settings import Settings

FRESH_S = 300.0
TIMEOUT_S = 5.0
MAX_BYTES = 256 * 1024
MAX_PEOPLE = 10_000
MAX_SPACES = 1000
T = TypeVar("T")
log = logging.getLogger("mana.gateway")


class BillingStatus(msgspec.Struct, frozen=True):
    """What the billing service says; more of it is not needed."""

    active: bool


class Membership(msgspec.Struct, frozen=True, rename="camel"):
    """A shared space that somebody belongs to."""

    organization_id: str


class Memberships(msgspec.Struct, frozen=True):
    """All of somebody's."""

    memberships: list[Membership]


class SyncOutside:
    """Asks them, with our service key."""

    def __init__(
        self,
        key: str,
        *,
        credits_url: str | None = None,
        exempt: tuple[str, ...] = (),
        memberships_url: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._key, self._exempt, self._clock = key, frozenset(exempt), clock
        self._credits, self._memberships = credits_url, memberships_url
        self._kept: OrderedDict[tuple[str, str], tuple[float, Any]] = OrderedDict()

    async def is_active(self, user: str, app: str) -> bool:
        """Whether this person's sync of an app is paid for, or nobody can say."""
        if self._credits is None or app in self._exempt:
            return True
        base = f"{self._credits.rstrip('/')}/api/v1/internal/sync/status"
        told = await self._asked("billing", user, path_of(base, user), BillingStatus)
        return told is None or told.active

    async def seen(self, caller: Caller) -> Caller:
        """The person with all shared spaces that they belong to."""
        if self._memberships is None:
            return caller
        base = f"{self._memberships.rstrip('/')}/api/v1/internal/users"
        url = path_of(base, caller.user) + "/memberships"
        told = await self._asked("memberships", caller.user, url, Memberships)
        named = [one.organization_id for one in told.memberships] if told else []
        usable = [id_ for id_ in named if id_ and not set(",\0") & set(id_)]
        spaces = dict.fromkeys((*caller.spaces, *usable[:MAX_SPACES]))
        return structs.replace(caller, spaces=tuple(spaces))

    async def _asked(self, what: str, user: str, url: str, kind: type[T]) -> T | None:
        """What was said in the last five minutes, else now; None for no answer that can be used."""
        kept = self._kept.get((what, user))
        if kept is not None and self._clock() - kept[0] < FRESH_S:
            return kept[1]
        try:
            async with httpx2.AsyncClient(trust_env=False) as client:
                told = await bounded_answer(
                    client,
                    "GET",
                    url,
                    within_s=TIMEOUT_S,
                    max_bytes=MAX_BYTES,
                    headers={"X-Service-Key": self._key},
                )
            if told.status_code != 200:
                log.warning("outside_silent asked=%s error=status-%d", what, told.status_code)
                return None
            said = msgspec.json.decode(told.content, type=kind)
        except (AnswerUnreadable, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            log.warning("outside_silent asked=%s error=%s", what, type(exc).__name__)
            return None
        self._kept[what, user] = self._clock(), said
        if len(self._kept) > MAX_PEOPLE:
            self._kept.popitem(last=False)
        return said


def opened_outside(settings: Settings) -> SyncOutside:
    """As the settings name them; raises SettingsError for a wrong key file that one needs."""
    asks = settings.credits_url or settings.memberships_url
    return SyncOutside(
        read_service_key(settings) if asks else "",
        credits_url=settings.credits_url,
        exempt=settings.billing_exempt_apps,
        memberships_url=settings.memberships_url,
    )
