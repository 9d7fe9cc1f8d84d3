"""A person's inbox on their device: what the server's shows, answers that wait while it is away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from mana_actors.client.errors import (
    NotSignedIn,
    ServerAway,
    ServerRefused,
    StoreFull,
    SyncInactive,
)
from mana_actors.client.inbox.device import CarriedOut, CarryOut, Device
from mana_actors.client.inbox.told import InboxProposal, proposals_in, told_proposal
from mana_actors.client.local.store import LocalStore
from mana_actors.client.owner.sealing import OwnerKeys
from mana_actors.client.server.remote import Remote
from mana_actors.client.table_names import TableName
from mana_actors.crash import CrashPoint
from mana_actors.json_values import as_text
from state.log.iterations import Author
from state.log.principals import DEFAULT_AGENT_ID
from state.log.stamps import datetime_of, text_of
from state.proposals.proposal import State

PROPOSALS = "/api/v1/me/proposals"
PAGE = 200
EVERY_S = 30.0
AFTER_CHANGE_S = 1.0
ANSWER, TOLD = "answer", "proposal"
MISSIONS, AGENTS = TableName("ai", "aiMissions"), TableName("ai", "agents")

_FURTHER: dict[State, int] = {
    "pending": 0,
    "waiting-for-device": 1,
    "refused": 2,
    "rejected": 3,
    "expired": 3,
    "done": 3,
    "undone": 4,
}
"""Of what the server told and what the log says since, the one that is further along is newer."""

log = logging.getLogger("mana.client")


class QueuedAnswer(msgspec.Struct, frozen=True):
    """An answer on its way; `problem` is why the server does not take it."""

    body: dict[str, Any]
    problem: str = ""


class Proposals:
    """What a person's agents propose. Answers and what is carried out survive this process.

    Methods that need the server say so by raising ServerAway, SyncInactive, NotSignedIn or
    ServerRefused.
    """

    def __init__(
        self,
        client: Device,
        remote: Remote | None,
        keys: OwnerKeys | None,
        reached: CrashPoint = lambda _point: None,
    ) -> None:
        self._client, self._remote, self._reached = client, remote, reached
        self._device: CarryOut | None = None
        if remote is not None and keys is not None:
            self._device = CarryOut(client, remote, keys, reached)
        self._turn = asyncio.Lock()

    # --- looking ----------------------------------------------------------------------------------

    async def list(self, state: State | None = None) -> list[InboxProposal]:
        """The newest first; while the server is away as it told them last and the log does."""
        with contextlib.suppress(ServerAway, SyncInactive, NotSignedIn):
            await self._refresh()
        waiting = dict(await self._answers())
        shown = [_with_answer(one, waiting.get(one.id)) for one in await self._known()]
        return [one for one in shown if state in (None, one.state)]

    async def _refresh(self) -> None:
        """All that the server has, kept in place of what it told before."""
        if self._remote is None:
            raise NotSignedIn(401)
        told: dict[str, bytes] = {}
        after: str | None = None
        while True:
            query = urlencode({"limit": PAGE} | ({} if after is None else {"after": after}))
            answered = await self._remote.asked("GET", f"{PROPOSALS}?{query}")
            page = _decoded(answered.content)
            for raw in page.get("proposals") or ():
                told[as_text(raw.get("id"))] = msgspec.json.encode(raw)
            after = page.get("after")
            if after is None:
                break

        def keep(store: LocalStore) -> None:
            for id_, _ in store.errands(TOLD, inside=True):
                if id_ not in told:
                    store.drop_errand(TOLD, id_)
            for id_, body in told.items():
                store.keep_errand(TOLD, id_, body)

        await self._client.keep(keep)

    async def _known(self) -> list[InboxProposal]:
        """What the server told last, and what has come by the log since."""
        kept = await self._client.read(lambda store, inside: store.errands(TOLD, inside=inside))
        found: dict[str, InboxProposal] = {}
        for id_, body in kept:
            with contextlib.suppress(ServerAway):  # of a newer server
                found[id_] = told_proposal(msgspec.json.decode(body))
        now = datetime_of(self._client.clock.now())
        names = {
            one.id: as_text(one.get("name")) for one in await self._client.table(AGENTS).list()
        }
        for mission in await self._client.table(MISSIONS).list():
            agent = as_text(mission.get("agentId")) or DEFAULT_AGENT_ID
            author = Author(agent, names[agent]) if agent in names else None
            for one in proposals_in(self._client.user, mission.id, mission.fields, author, now):
                before = found.get(one.id)
                if before is None:
                    found[one.id] = one
                elif _FURTHER[one.state] > _FURTHER[before.state]:
                    found[one.id] = _moved(before, one)
        return sorted(found.values(), key=lambda one: (one.created_at or "", one.id), reverse=True)

    # --- answering --------------------------------------------------------------------------------

    async def approve(self, id_: str, params: Mapping[str, Any] | None = None) -> None:
        """Have it carried out, with these parameters in place of the proposed ones if given."""
        edited = {} if params is None else {"editedArgs": dict(params)}
        await self._answer(id_, {"status": "resolved", "payload": {"approved": True, **edited}})

    async def reject(self, id_: str, feedback: str = "") -> None:
        """Do not; the agent reads why before it plans again."""
        said = {"feedback": feedback} if feedback else {}
        await self._answer(id_, {"status": "resolved", "payload": {"approved": False, **said}})

    async def later(self, id_: str, until: datetime) -> None:
        """Ask again at that time."""
        await self._answer(id_, {"status": "resolved", "payload": {"later": text_of(until)}})

    async def _answer(self, id_: str, body: dict[str, Any]) -> None:
        """Keep the answer, and send it where the server can be reached."""
        raw = msgspec.json.encode(QueuedAnswer(body))
        await self._client.keep(lambda store: store.keep_errand(ANSWER, id_, raw))
        self._reached("answer_kept")
        with contextlib.suppress(ServerAway, SyncInactive, NotSignedIn):
            await self.send_answers()

    async def send_answers(self) -> int:
        """Send what was answered while the server was away; how many it took.

        One that it does not take stays, with why, until it is forgotten or answered anew.
        """
        async with self._turn:
            waiting = [each for each in await self._answers() if not each[1].problem]
            return sum([await self._taken(id_, queued) for id_, queued in waiting])

    async def _taken(self, id_: str, queued: QueuedAnswer) -> bool:
        """Send one; one that was replaced meanwhile stays as it is now."""
        was = msgspec.json.encode(queued)
        problem = await self._sent(id_, queued.body)
        self._reached("answer_sent")
        if problem is None:
            await self._client.keep(lambda store: store.drop_errand(ANSWER, id_, was))
            return True
        now = msgspec.json.encode(QueuedAnswer(queued.body, problem))
        await self._client.keep(lambda store: store.keep_errand(ANSWER, id_, now, was))
        return False

    async def _sent(self, id_: str, body: dict[str, Any]) -> str | None:
        """Why the server does not take this answer, None where it does."""
        if self._remote is None:
            raise NotSignedIn(401)
        path = f"{PROPOSALS}/{quote(id_, safe='')}/answer"
        try:
            answered = await self._remote.asked("POST", path, msgspec.json.encode(body))
        except ServerRefused as exc:
            return exc.text or f"refused ({exc.status})"
        await self._client.keep(lambda store: store.keep_errand(TOLD, id_, answered.content))
        return None

    async def forget_answer(self, id_: str) -> None:
        """An answer that the server does not take, or that has not been sent, is given up."""
        await self._client.keep(lambda store: store.drop_errand(ANSWER, id_))

    async def _answers(self) -> list[tuple[str, QueuedAnswer]]:
        kept = await self._client.read(lambda store, inside: store.errands(ANSWER, inside=inside))
        return [(id_, msgspec.json.decode(body, type=QueuedAnswer)) for id_, body in kept]

    # --- carrying out -----------------------------------------------------------------------------

    async def carry_out(self) -> list[CarriedOut]:
        """Do what waits for a device of this person that has their keys; what became of each.

        Needs the server and the keys. What another device does is left to it for its ten minutes.
        """
        if self._device is None:
            raise NotSignedIn(401)
        await self.send_answers()
        async with self._turn:
            return await self._device.once()

    async def run(self) -> None:
        """Until it is cancelled: answers are sent, and what waits for a device is carried out."""
        changes = None if self._device is None else self._client.table(MISSIONS).changes()
        waiting: asyncio.Task[str] | None = None
        try:
            while True:
                if changes is not None and waiting is None:
                    # Before the look: what comes meanwhile is looked at next.
                    waiting = asyncio.ensure_future(anext(changes))
                try:
                    await (self.send_answers() if changes is None else self.carry_out())
                except (
                    ServerAway,
                    SyncInactive,
                    StoreFull,
                    NotSignedIn,
                    ServerRefused,
                ) as exc:
                    log.debug("inbox_waits error=%s", type(exc).__name__)
                if waiting is None:
                    await asyncio.sleep(EVERY_S)
                    continue
                done, _ = await asyncio.wait([waiting], timeout=EVERY_S)
                if done:
                    waiting = None
                    await asyncio.sleep(AFTER_CHANGE_S)
        finally:
            if waiting is not None:
                waiting.cancel()


def _with_answer(one: InboxProposal, queued: QueuedAnswer | None) -> InboxProposal:
    if queued is None:
        return one
    return msgspec.structs.replace(one, answered_here=queued.body, refused_answer=queued.problem)


def _moved(before: InboxProposal, now: InboxProposal) -> InboxProposal:
    return msgspec.structs.replace(
        before,
        state=now.state,
        edited=now.edited,
        claimed_by=now.claimed_by,
        claimed_until=now.claimed_until,
    )


def _decoded(raw: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise ServerAway("not an answer of a gateway") from exc
