"""What only a device with its owner's keys can write: claimed, written once, and told.

A claim lasts ten minutes. The change ids of what is written are derived from the proposal, and the
server takes each id once: however many devices carry a proposal out, however late, one counts.
What was written and not pushed is held back once its claim draws to an end, until it is claimed
anew, so that nothing lands that its owner has answered otherwise since.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import UTC, datetime, tzinfo
from typing import Any, Literal, Protocol, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from mana_actors.agent.tools.catalogue import catalogue
from mana_actors.agent.tools.validation import ArgumentError, validate_arguments
from mana_actors.client.errors import ServerAway, ServerRefused, WriteRefused
from mana_actors.client.inbox.told import InboxProposal, told_proposal
from mana_actors.client.local.clock import StampClock
from mana_actors.client.local.store import LocalStore
from mana_actors.client.owner.sealing import OwnerKeys
from mana_actors.client.server.remote import Remote
from mana_actors.client.table import ShownRecord, Table
from mana_actors.client.table_names import TableName
from mana_actors.crash import CrashPoint
from mana_actors.json_values import as_object, as_text, objects_in
from state.log.own_changes import RecordAt
from state.log.principals import Actor, normalize_actor
from state.log.stamps import NS_PER_MS, datetime_of, parse_instant
from state.log.tables import is_shared_space
from state.proposals.effects import (
    CannotCarryOut,
    Effect,
    Handler,
    Need,
    NeedsDevice,
    Record,
    Scene,
    TablePlace,
)
from state.proposals.proposal import new_change_id
from state.proposals.tool_handlers import HANDLERS
from state.sealing.values import SealingError

PROPOSALS = "/api/v1/me/proposals"
MISSIONS = TableName("ai", "aiMissions")
PAGE = 200
CARRIED = "carried"
HELD_BACK_MS = 240_000
"""Longer than a push under way can take: nothing of a claim that has ended is still to land."""

ID_IN_USE = "change id in use"
"""How the server refuses a push where another device's counts, and that of a stranger's id."""

R = TypeVar("R")


class Device(Protocol):
    """The client that it is for."""

    user: str
    client_id: str
    clock: StampClock

    def table(self, name: TableName) -> Table: ...
    def transaction(self) -> AbstractAsyncContextManager[None]: ...
    def run_as(
        self,
        actor: Actor,
        *,
        space: str | None = None,
        change_ids: Callable[[RecordAt, int], str] | None = None,
    ) -> AbstractContextManager[None]: ...
    async def read(self, work: Callable[[LocalStore, bool], R]) -> R: ...
    async def keep(self, work: Callable[[LocalStore], None]) -> None: ...
    async def sync(self, *apps: str) -> None: ...


class CarriedOut(msgspec.Struct, frozen=True):
    """What became of a proposal that this device took; `why` is empty where it was done."""

    proposal: str
    tool: str
    outcome: Literal["done", "refused", "left"]
    why: str = ""


class WrittenHere(msgspec.Struct, frozen=True):
    """What was written here for a proposal, and has yet to be told: its rows and their apps."""

    tool: str
    change_ids: tuple[str, ...]
    apps: tuple[str, ...]


class DeviceClaim(msgspec.Struct, frozen=True):
    """A proposal that is this device's until a time, in ms of the server's clock."""

    proposal: InboxProposal
    actor: Actor
    until_ms: int


class CarryOut:
    """One device of a person. `once` is for one caller at a time."""

    def __init__(
        self, client: Device, remote: Remote, keys: OwnerKeys, reached: CrashPoint
    ) -> None:
        if keys.user != client.user:
            raise ValueError("the keys are another person's")
        self._client, self._remote, self._keys, self._reached = client, remote, keys, reached

    async def once(self) -> list[CarriedOut]:
        """Tell what was written before, then do what waits; what became of each."""
        done: list[CarriedOut] = []
        for id_, body in await self._client.read(_carried):
            done.append(await self._told(id_, msgspec.json.decode(body, type=WrittenHere)))
        for proposal in await self._waiting():
            if HANDLERS.get(proposal.tool) is not None and await self._can_read(proposal):
                claim = await self._claimed(proposal.id)
                if claim is not None:
                    done.append(await self._carried_out(claim))
        return done

    # --- claiming ---------------------------------------------------------------------------------

    async def _waiting(self) -> list[InboxProposal]:
        """What waits for a device, and was not written here; the oldest first."""
        kept = await self._client.read(_carried)
        found: list[InboxProposal] = []
        query: dict[str, str] = {"state": "waiting-for-device", "limit": str(PAGE)}
        while True:
            answered = await self._remote.asked("GET", f"{PROPOSALS}?{urlencode(query)}")
            page = _decoded(answered.content)
            found += [told_proposal(raw) for raw in objects_in(page.get("proposals"))]
            if not (after := as_text(page.get("after"))):
                break
            query["after"] = after
        return [one for one in reversed(found) if one.id not in dict(kept)]

    async def _claimed(self, id_: str) -> DeviceClaim | None:
        """The proposal for ten minutes, None where it is not to be had."""
        body = msgspec.json.encode({"device": self._client.client_id})
        try:
            answered = await self._remote.asked("POST", _path(id_, "claim"), body)
        except ServerRefused as exc:
            if exc.status in (404, 409):  # done, answered otherwise, or another device's
                return None
            raise
        told = _decoded(answered.content)
        proposal = told_proposal(told)
        ends = parse_instant(proposal.claimed_until or "")
        if ends is None:
            raise ServerAway("a claim without an end")
        return DeviceClaim(proposal, normalize_actor(told.get("actor")), ends // NS_PER_MS)

    # --- writing ----------------------------------------------------------------------------------

    async def _carried_out(self, claim: DeviceClaim) -> CarriedOut:
        self._reached("claimed")
        id_, tool = claim.proposal.id, claim.proposal.tool
        handler = HANDLERS[tool]
        await self._client.sync("ai")
        try:
            params = validate_arguments(catalogue()[tool], await self._params(claim.proposal))
            places = [need.place for need in handler.needs(params)]
            await self._client.sync(*dict.fromkeys(place.app for place in places))
            written = await self._written(claim, handler, params)
        except NeedsDevice:
            return CarriedOut(id_, tool, "left", "these keys do not open what it takes")
        except (CannotCarryOut, ArgumentError, WriteRefused) as exc:
            why = exc.why if isinstance(exc, CannotCarryOut) else str(exc)
            return await self._finished(id_, tool, why)
        self._reached("written_here")
        return await self._told(id_, written)

    async def _written(
        self, claim: DeviceClaim, handler: Handler, params: Mapping[str, Any]
    ) -> WrittenHere:
        """Its records as rows that wait to be pushed, and the errand, kept together."""
        client, id_ = self._client, claim.proposal.id
        mission = await client.table(MISSIONS).get(claim.proposal.mission_id)
        space = None if mission is None else as_text(mission.get("spaceId")) or None
        found: dict[TablePlace, Sequence[Record]] = {}
        for need in handler.needs(params):
            found[need.place] = (*found.get(need.place, ()), *await self._read(need))
        now = datetime_of(client.clock.now())
        scene = Scene(proposal=id_, params=params, found=found, now=now, zone=_here())
        change_ids: list[str] = []

        def named(at: RecordAt, number: int) -> str:
            change_ids.append(new_change_id(id_, at, number))
            return change_ids[-1]

        apps: dict[str, None] = {}
        async with client.transaction():
            with client.run_as(claim.actor, space=space, change_ids=named):
                for effect in handler.effects(scene):
                    apps[effect.place.app] = None
                    await self._apply(id_, effect, space)
            written = WrittenHere(claim.proposal.tool, tuple(change_ids), tuple(apps))
            body, until_ms = msgspec.json.encode(written), claim.until_ms - HELD_BACK_MS
            await client.keep(lambda store: store.keep_errand(CARRIED, id_, body))
            await client.keep(lambda store: store.hold(change_ids, until_ms))
        return written

    async def _apply(self, proposal: str, effect: Effect, space: str | None) -> None:
        """One record as the effect says, unless a device wrote it for this proposal before."""
        table = self._client.table(TableName(effect.place.app, effect.place.table))
        first = new_change_id(
            proposal, RecordAt(effect.place.app, effect.place.table, effect.id), 0
        )
        if await self._client.read(lambda store, inside: store.has_row(first, inside=inside)):
            return
        known = await table.get(effect.id)
        of = space if known is None else as_text(known.get("spaceId")) or None
        fields = effect.fields
        if not is_shared_space(of):
            fields = self._keys.seal(effect.place.table, fields)
        if effect.op == "update":
            await table.update(effect.id, fields)
        elif effect.op == "delete":
            await table.delete(effect.id)
        elif known is None:
            await table.insert(fields, effect.id)

    async def _params(self, proposal: InboxProposal) -> dict[str, Any]:
        """What was approved; raises CannotCarryOut, and NeedsDevice for keys that are elsewhere."""
        given = proposal.edited if proposal.edited is not None else proposal.params
        if given is not None:
            return given
        step = await self._sealed_step(proposal)
        params = as_object((as_object((step or {}).get("intent")) or {}).get("params"))
        if params is None:
            raise CannotCarryOut("its plan is not there any more")
        return params

    async def _can_read(self, proposal: InboxProposal) -> bool:
        """Whether its parameters are readable with the keys here."""
        if proposal.params is not None:
            return True
        await self._client.sync("ai")
        try:
            return await self._sealed_step(proposal) is not None
        except NeedsDevice:
            return False

    async def _sealed_step(self, proposal: InboxProposal) -> dict[str, Any] | None:
        """The step of a sealed plan, opened; raises NeedsDevice."""
        mission = await self._client.table(MISSIONS).get(proposal.mission_id)
        iterations = objects_in(None if mission is None else mission.get("iterations"))
        for iteration in iterations:
            if iteration.get("id") == proposal.iteration_id:
                try:
                    opened = self._keys.open_iteration(proposal.mission_id, iteration)
                except SealingError:
                    raise NeedsDevice from None
                steps = objects_in(opened.get("plan"))
                return next((one for one in steps if one.get("id") == proposal.step_id), None)
        return None

    async def _read(self, need: Need) -> list[Record]:
        """The live records that a handler needs, readable as far as the keys here go."""
        table = self._client.table(TableName(need.place.app, need.place.table))
        if need.id:
            record = await table.get(need.id)
            return [] if record is None else [self._opened(record)]
        mine = (None, self._client.user)  # rows of other members are not looked through
        return [self._opened(one) for one in await table.list() if one.get("authorId") in mine]

    def _opened(self, record: ShownRecord) -> Record:
        try:
            fields = self._keys.open(record.fields)
        except SealingError:  # whoever reads a sealed field of it is told that it is
            fields = record.fields
        return {**fields, "id": record.id}

    # --- telling ----------------------------------------------------------------------------------

    async def _told(self, id_: str, written: WrittenHere) -> CarriedOut:
        """Push what was written, unless somebody else's counts, and tell the server."""
        client = self._client
        held = await client.read(lambda store, _: store.waiting_of(written.change_ids))
        if held and client.clock.now() // NS_PER_MS >= min(one.not_after_ms or 0 for one in held):
            claim = await self._claimed(id_)
            if claim is None:
                return await self._given_up(id_, written)
            until_ms = claim.until_ms - HELD_BACK_MS
            await client.keep(lambda store: store.hold(written.change_ids, until_ms))
        await client.sync(*written.apps)
        self._reached("pushed_before_told")
        left = await client.read(lambda store, _: store.waiting_of(written.change_ids))
        if any(one.problem is None for one in left):
            return CarriedOut(id_, written.tool, "left", "its claim ended before it was pushed")
        is_there = await client.read(
            lambda store, inside: any(
                store.has_row(id_, inside=inside) for id_ in written.change_ids
            )
        )
        why = next(
            (
                one.problem
                for one in left
                if one.problem and not (is_there and one.problem.startswith(ID_IN_USE))
            ),
            "",
        )
        await client.keep(lambda store: store.drop_waiting(written.change_ids))
        return await self._finished(id_, written.tool, why or "")

    async def _given_up(self, id_: str, written: WrittenHere) -> CarriedOut:
        """It was answered otherwise, or another device has it: what waits here never lands."""
        await self._client.keep(lambda store: store.drop_waiting(written.change_ids))
        await self._client.keep(lambda store: store.drop_errand(CARRIED, id_))
        return CarriedOut(id_, written.tool, "left", "it was answered or taken over meanwhile")

    async def _finished(self, id_: str, tool: str, why: str) -> CarriedOut:
        body = {"device": self._client.client_id} | ({"problem": why[:500]} if why else {})
        try:
            await self._remote.asked("POST", _path(id_, "done"), msgspec.json.encode(body))
            outcome = CarriedOut(id_, tool, "refused" if why else "done", why)
        except ServerRefused as exc:
            if exc.status not in (404, 409):
                raise
            outcome = CarriedOut(id_, tool, "left", exc.text)
        self._reached("told_before_forgotten")
        await self._client.keep(lambda store: store.drop_errand(CARRIED, id_))
        return outcome


def _carried(store: LocalStore, inside: bool) -> list[tuple[str, bytes]]:
    return store.errands(CARRIED, inside=inside)


def _here() -> tzinfo:
    """The zone that this device is set to."""
    zone = datetime.now(UTC).astimezone().tzinfo
    assert zone is not None  # it was made aware
    return zone


def _path(id_: str, what: str) -> str:
    return f"{PROPOSALS}/{quote(id_, safe='')}/{what}"


def _decoded(raw: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise ServerAway("not an answer of a gateway") from exc
