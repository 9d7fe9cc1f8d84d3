"""One request for a key: checked, written down, and only then answered (P7).

Every way out is a reply; what cannot be written down durably is not released.
"""

from __future__ import annotations

import logging

import msgspec

from mana_actors.keys.protocol import (
    AskerKeyInvalid,
    AskForKey,
    Binding,
    KeyRefused,
    KeyReleased,
    RefusedBecause,
    sealed_to,
)
from state.errors import StateError
from state.grants.grant import Grantee, GrantFault, OpenedGrant, Trust, opened_grant
from state.log.stamps import datetime_of
from state.store.connect import CapabilityInvalid, Refused
from state.store.keys import Attempt, GrantedMission, KeyRequest, KeyStore, RunClaim

log = logging.getLogger("mana.keys")


class NotedReply(msgspec.Struct, frozen=True):
    """A reply, and what the log says of it once it is durable: `why` is the audit's reason."""

    reply: KeyReleased | KeyRefused
    agent: str = "?"
    why: str = ""


class Releases:
    """Decides about requests, with the private key; keeps nothing of any."""

    def __init__(self, store: KeyStore, trust: Trust) -> None:
        self._store = store
        self._trust = trust

    async def answer(self, ask: AskForKey) -> KeyReleased | KeyRefused:
        """The reply; whatever fails before the attempt is durable ends in a refusal."""
        decision = await self._durable(ask)
        is_released = isinstance(decision.reply, KeyReleased)
        log.info(
            "%s agent=%s run=%s attempt=%s why=%s",
            "key_released" if is_released else "key_refused",
            decision.agent, ask.run_id, ask.attempt, decision.why,
        )  # fmt: skip
        return decision.reply

    async def _durable(self, ask: AskForKey) -> NotedReply:
        """What was decided, once the transaction that notes it has committed."""
        run = RunClaim(ask.run_id, ask.attempt, ask.mission_id)
        try:
            async with self._store.request(ask.capability, run) as request:
                decision = await self._decided(request, ask)
        except CapabilityInvalid:
            return _unaudited("capability-invalid")
        except AskerKeyInvalid:
            return _unaudited("bad-request")
        except Refused as exc:
            return _unaudited("bad-request" if exc.blames_a_value else "unavailable")
        except StateError as exc:
            log.warning("key_database_failed error=%s", type(exc).__name__)
            return _unaudited("unavailable")
        return decision

    async def _decided(self, request: KeyRequest, ask: AskForKey) -> NotedReply:
        mission = await request.mission()
        if mission.outcome == "too-many":
            return _unaudited("too-many")  # the audit has a hundred rows of this run already
        if mission.outcome != "live":
            return await _refused(request, mission, mission.outcome, mission.outcome)
        if mission.grant is None:
            return await _refused(request, mission, "no-grant", "no-grant")
        claim = Grantee(mission.user_id, ask.mission_id)
        found = opened_grant(mission.grant, claim, self._trust, mission.at)
        if isinstance(found, GrantFault):
            return await _refused(request, mission, found.reason, found.detail)
        with found.key:
            return await _released(request, mission, ask, found)


def _unaudited(reason: RefusedBecause) -> NotedReply:
    """A refusal that belongs to nobody's audit."""
    return NotedReply(KeyRefused(reason), why=reason)


async def _refused(
    request: KeyRequest, mission: GrantedMission, reason: RefusedBecause, detail: str
) -> NotedReply:
    await request.note(Attempt("refused", reason=detail))
    return NotedReply(KeyRefused(reason), _agent(mission), detail)


async def _released(
    request: KeyRequest, mission: GrantedMission, ask: AskForKey, grant: OpenedGrant
) -> NotedReply:
    release_id = await request.note(
        Attempt(
            "released",
            version=grant.version,
            record_ids=grant.scope.record_ids,
            expires_at=datetime_of(grant.expires_at),
        )
    )
    binding = Binding(ask.run_id, ask.attempt, ask.mission_id, release_id)
    reply = KeyReleased(
        sealed_to(ask.public_key, grant.key, binding),
        release_id,
        grant.scope.tables,
        grant.scope.record_ids,
        grant.exposure,
        grant.expires_at,
        mission.at,
    )
    return NotedReply(reply, _agent(mission), grant.version)


def _agent(mission: GrantedMission) -> str:
    return f"{mission.user_id}/{mission.agent_id}"
