"""Puts plans to their owners though nobody looks, and lets expire what nobody answered."""

import asyncio
import logging
from typing import Never

from mana_actors.logs import without_text
from state.errors import StateError, TransientError
from state.store.gateway.carry_out import Answering
from supervisor.custody.vaults import Caller
from supervisor.gateway.people.owners import Owners

log = logging.getLogger("mana.gateway")

Key = tuple[str, str]  # user and mission

POLL_S = 2.0
AT_ONCE = 200


class Stager:
    """One per gateway; several may run at once, since each plan is staged under its lock.

    Where another service keeps the spaces, plans of shared ones wait until their owner looks.
    """

    def __init__(self, owners: Owners) -> None:
        self._store, self._owners = owners.proposals, owners
        self._seen: dict[Key, int] = {}
        self._gone = set[Key]()  # missions that are not there any more, with what is late of them

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
        seen: dict[Key, int] = {}
        while page := await self._store.unstaged(AT_ONCE, after):
            for user, mission, version in page:
                seen[user, mission] = version
                if self._seen.get((user, mission)) == version:
                    continue  # staged, and not folded yet; or there is nothing to stage in it
                try:
                    made += await self._store.stage(await self._asked(user), mission)
                except StateError as exc:
                    if self._may_pass(user, mission, exc):
                        del seen[user, mission]
            after = page[-1][:2]
        self._seen = seen
        for user, mission in await self._store.late(AT_ONCE):
            if (user, mission) not in self._gone:
                try:
                    made += await self._store.stage(await self._asked(user), mission)
                except StateError as exc:
                    if not self._may_pass(user, mission, exc):
                        self._gone.add((user, mission))
        return made

    def _may_pass(self, user: str, mission: str, exc: StateError) -> bool:
        """Whether what went wrong is worth another try; it is logged."""
        log.warning("staging_failed user=%s mission=%s error=%s", user, mission, type(exc).__name__)
        return isinstance(exc, TransientError)

    async def _asked(self, user: str) -> Answering:
        custody, office = self._owners.custody, self._owners.office
        has_vault = custody is not None and (await custody.status(Caller(user)))["vaultExists"]
        spaces = [] if office is None else await office.people.spaces(member=user)
        return Answering(user, tuple(space.space_id for space in spaces), has_vault=bool(has_vault))
