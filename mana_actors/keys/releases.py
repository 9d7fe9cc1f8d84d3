"""One request for a key: checked, written down, and only then answered.

A key that leaves is in the audit first: what cannot be written down durably is not released. Every
way out is a reply.
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
from state.grants.grant import Grantee, OpenedGrant, Trust, opened_grant
from state.log.stamps import datetime_of
from state.store.connect import CapabilityInvalid, Refused
from state.store.keys import KeyAudit, KeyRequest, KeyStore, RunClaim

log = logging.getLogger("mana.keys")


class NotedReply(msgspec.Struct, frozen=True):
    """A reply and what the log says of it; `why` is what the audit says, `agent` is USER/AGENT."""

    reply: KeyReleased | KeyRefused
    why: str
    agent: str = "?"


class Releases:
    """Decides about requests, with the private keys; keeps nothing of any request."""

    def __init__(self, store: KeyStore, trust: Trust) -> None:
        self._store = store
        self._trust = trust

    async def answer(self, ask: AskForKey) -> KeyReleased | KeyRefused:
        """The reply; whatever fails before the attempt is durable ends in a refusal."""
        noted = await self._durable(ask)
        log.info(
            "%s agent=%s run=%s attempt=%s why=%s",
            "key_released" if isinstance(noted.reply, KeyReleased) else "key_refused",
            noted.agent, ask.run_id, ask.attempt, noted.why,
        )  # fmt: skip
        return noted.reply

    async def _durable(self, ask: AskForKey) -> NotedReply:
        """What was decided, once the transaction that notes it has committed."""
        run = RunClaim(ask.run_id, ask.attempt, ask.mission_id)
        try:
            async with self._store.request(ask.capability, run) as request:
                decided = await self._decided(request, ask)
        except CapabilityInvalid:
            return _unaudited("capability-invalid")
        except AskerKeyInvalid:
            return _unaudited("bad-request")
        except Refused as exc:
            return _unaudited("bad-request" if exc.blames_a_value else "unavailable")
        except StateError as exc:
            log.warning("key_database_failed error=%s", type(exc).__name__)
            return _unaudited("unavailable")
        return decided

    async def _decided(self, request: KeyRequest, ask: AskForKey) -> NotedReply:
        mission = await request.mission()
        if mission.outcome == "too-many":
            return _unaudited("too-many")  # the audit has a hundred rows of this run already
        agent = f"{mission.user_id}/{mission.agent_id}"
        reason: RefusedBecause = "no-grant" if mission.outcome == "live" else mission.outcome
        detail: str = reason
        if mission.outcome == "live" and mission.grant is not None:
            grantee = Grantee(mission.user_id, ask.mission_id)
            found = opened_grant(mission.grant, grantee, self._trust, mission.at)
            if isinstance(found, OpenedGrant):
                released = KeyAudit(
                    "released",
                    version=found.version,
                    record_ids=found.scope.record_ids,
                    expires_at=datetime_of(found.expires_at),
                )
                with found.key:
                    release_id = await request.note(released)
                    binding = Binding(ask.run_id, ask.attempt, ask.mission_id, release_id)
                    sealed_key = sealed_to(ask.public_key, found.key, binding)
                reply = KeyReleased(
                    sealed_key=sealed_key,
                    release_id=release_id,
                    tables=found.scope.tables,
                    record_ids=found.scope.record_ids,
                    exposure=found.exposure,
                    expires_at=found.expires_at,
                    released_at=mission.at,
                )
                return NotedReply(reply, found.version, agent)
            reason, detail = found.reason, found.detail
        await request.note(KeyAudit("refused", reason=detail))
        return NotedReply(KeyRefused(reason), detail, agent)


def _unaudited(reason: RefusedBecause) -> NotedReply:
    """A refusal that belongs in nobody's audit."""
    return NotedReply(KeyRefused(reason), reason)
