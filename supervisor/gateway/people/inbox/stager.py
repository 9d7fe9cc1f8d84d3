"""Puts new plans to their owners though nobody looks, and carries out what is always approved."""

import asyncio
import logging
from typing import Never

from mana_actors.logs import without_text
from state.errors import StateError, TransientError
from state.store.gateway.carry_out import Answering
from supervisor.custody.vaults import Caller
from supervisor.gateway.people.owners import Owners

log = logging.getLogger("mana.gateway")

POLL_S = 2.0
AT_ONCE = 200


class Stager:
    """One per gateway; several may run at once, since each plan is staged under its lock.

    Where another service keeps the spaces, plans of shared ones wait until their owner looks.
    """

    def __init__(self, owners: Owners) -> None:
        self._store, self._owners = owners.proposals, owners
        self._seen: dict[tuple[str, str], int] = {}

    async def run(self) -> Never:
        """Until it is cancelled; what goes wrong is logged, and tried again."""
        while True:
            try:
                await self.once()
            except TransientError as exc:
                log.warning("staging_failed error=%s", type(exc).__name__)
            except Exception as exc:
                log.error(  # noqa: TRY400 - an error's text may hold what somebody wrote
                    "staging_failed error=%s", type(exc).__name__, exc_info=without_text(exc)
                )
            await asyncio.sleep(POLL_S)

    async def once(self) -> int:
        """Every plan that waits and is not as it was seen before; how many proposals that made."""
        made, after = 0, None
        seen: dict[tuple[str, str], int] = {}
        while page := await self._store.unstaged(AT_ONCE, after):
            for user, mission, version in page:
                seen[user, mission] = version
                if self._seen.get((user, mission)) == version:
                    continue  # staged, and not folded yet; or there is nothing to stage in it
                made += await self._staged(user, mission, seen)
            after = page[-1][:2]
        self._seen = seen
        return made

    async def _staged(self, user: str, mission: str, seen: dict[tuple[str, str], int]) -> int:
        try:
            return await self._store.stage(await self._asked(user), mission)
        except StateError as exc:
            if isinstance(exc, TransientError):
                del seen[user, mission]
            log.warning(
                "staging_failed user=%s mission=%s error=%s", user, mission, type(exc).__name__
            )
            return 0

    async def _asked(self, user: str) -> Answering:
        custody, office = self._owners.custody, self._owners.office
        has_vault = custody is not None and (await custody.status(Caller(user)))["vaultExists"]
        spaces = [] if office is None else await office.people.spaces(member=user)
        return Answering(user, tuple(space.space_id for space in spaces), has_vault=bool(has_vault))
