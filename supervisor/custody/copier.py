"""Makes the copies that runs ask for, where vaults are kept: no client has to be open.

Many may run at once: a request is leased to one of them, and comes back if that one dies. A key is
lent only when there is something to seal, for a record that the signed grant lists.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Never

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from state.errors import TransientError
from state.grants.grant import SKEW_NS, Grantee, GrantFault, SignedGrant, derived_key, signed_grant
from state.grants.vault import MasterKeyNotOpened, VaultRefused
from state.log.merge import Snapshot, hidden
from state.log.records import InputRef, Mission
from state.log.stamps import NS_PER_US, instant_of
from state.log.tables import INPUT_APPS
from state.sealing.copies import (
    LARGEST_CHARS,
    MOST_AT_ONCE,
    SealedCopy,
    copied,
    is_current,
)
from state.sealing.values import IV_BYTES, DataKey, SealingError, is_sealed
from state.store.connect import Refused, Superseded
from state.store.gateway.copy_requests import Answer, CopyRequest, CopyRequests
from supervisor.custody.vaults import Caller, Custody

log = logging.getLogger("mana.gateway")

POLL_S = 1.0
LEASE_S = 120
AT_ONCE = 8
MOST_CHARS = 4 * 1024 * 1024
"""Of ciphertext in one go; what is left is asked for again."""
USER_AGENT = "mana-copier"
_TOO_LARGE = "54000"
_REFUSALS: dict[str, Answer] = {
    "ZK_ACTIVE": "zero-knowledge",
    "VAULT_NOT_INITIALISED": "no-vault",
}

RecordName = tuple[str, str]
Issuers = Mapping[str, Ed25519PublicKey]


class Work(msgspec.Struct):
    """What is to be sealed, by table and record id, and how many records cannot be."""

    sources: dict[RecordName, Snapshot]
    too_large: int = 0
    chars: int = 0

    def has_room(self) -> bool:
        """Whether another record may come in."""
        return len(self.sources) < MOST_AT_ONCE and self.chars < MOST_CHARS


class Copier:
    """Answers requests for copies; keeps neither keys nor records."""

    def __init__(
        self,
        store: CopyRequests,
        custody: Custody,
        issuers: Issuers,
        *,
        lease_s: int = LEASE_S,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store, self._custody, self._issuers = store, custody, issuers
        self._lease_s, self._clock = lease_s, clock

    async def run(self) -> Never:
        """Work for ever; what fails is tried again."""
        while True:
            try:
                answered = await self.serve()
            except Exception as exc:  # noqa: BLE001 - the server beside this loop must live on
                log.warning("requests_not_taken error=%s", type(exc).__name__)
                answered = 0
            if not answered:
                await asyncio.sleep(POLL_S)

    async def serve(self) -> int:
        """Answer what is asked for now; how many there were."""
        taken = await self._store.take(AT_ONCE, self._lease_s)
        for asked in taken:
            await self._serve(asked)
        return len(taken)

    async def close(self) -> None:
        """Close the connections of requests; custody has its own."""
        await self._store.close()

    async def _serve(self, asked: CopyRequest) -> None:
        """One answer; where the database is away, or the request another's, the lease runs out."""
        try:
            answer = await self._answer(asked)
        except (TransientError, Superseded) as exc:
            log.warning(
                "copies_postponed user=%s mission=%s error=%s",
                asked.user, asked.mission, type(exc).__name__,
            )  # fmt: skip
            return
        except Exception as exc:  # noqa: BLE001 - one person's records must not stop the others
            log.error(  # noqa: TRY400 - a trace could hold what was decrypted
                "copies_failed user=%s mission=%s error=%s",
                asked.user, asked.mission, type(exc).__name__,
            )  # fmt: skip
            answer = "failed"
        if answer not in ("made", "current"):
            log.info("copies_not_made user=%s mission=%s why=%s", asked.user, asked.mission, answer)
        await self._store.answer(asked, answer)

    async def _answer(self, asked: CopyRequest) -> Answer:
        mission = await self._store.mission(asked)
        if mission is None or mission.grant is None:
            return "no-grant"
        claim = Grantee(asked.user, asked.mission)
        grant = signed_grant(mission.grant, claim, self._issuers, self._clock())
        if isinstance(grant, GrantFault):
            return "grant-refused"
        try:  # why no key of this person's would do, asked before any is lent
            since = instant_of(await self._custody.key_since(asked.user))
        except VaultRefused as exc:
            return _REFUSALS.get(exc.code, "failed")
        if since > grant.issued_at + SKEW_NS:
            return "grant-outdated"
        work = await self._work(asked, mission, grant)
        if not work.sources:
            return "too-large" if work.too_large else "current"

        async def allowed() -> None:
            """The grant was verified before the key is asked for."""

        purpose = f"ai-sealed-copies mission={asked.mission}"
        caller = Caller(asked.user, user_agent=USER_AGENT)
        try:
            lent = await self._custody.lent(caller, purpose, allowed)
        except MasterKeyNotOpened:
            return "failed"
        with (  # both keys are wiped at the end
            lent as master_key,
            derived_key(master_key.material, asked.user, grant.derivation) as data_key,
        ):
            sealed, faults = _copies(asked, work, master_key, data_key)
        if not sealed:
            return faults
        is_kept = await self._store.put(asked, sealed)
        if is_kept:
            log.info(
                "sealed_copies_made user=%s mission=%s count=%s",
                asked.user, asked.mission, len(sealed),
            )  # fmt: skip
        return "made" if is_kept else "no-grant"

    async def _work(self, asked: CopyRequest, mission: Mission, grant: SignedGrant) -> Work:
        """Granted inputs whose copies lack, are stale, or may be under an earlier grant's key."""
        kept = await self._store.kept(asked)
        work = Work({})
        for ref in granted_inputs(mission, grant):
            if not work.has_room():
                break
            try:
                source = await self._store.source(asked, INPUT_APPS[ref.module], ref.table, ref.id)
            except Refused as exc:
                if exc.sqlstate != _TOO_LARGE:
                    raise
                work.too_large += 1
                continue
            copy = kept.get((ref.table, ref.id))
            # Another scope is another key: a copy from before this grant may be under another.
            is_good = (
                copy is not None
                and is_current(copy, source)
                and copy.written_at * NS_PER_US >= grant.issued_at
            )
            chars = sum(len(v) for v in source.fields.values() if is_sealed(v))
            if hidden(source) or not chars or is_good:
                continue
            if chars > LARGEST_CHARS:
                work.too_large += 1
                continue
            work.sources[ref.table, ref.id] = source
            work.chars += chars
        return work


def granted_inputs(mission: Mission, grant: SignedGrant) -> list[InputRef]:
    """The inputs that the signed scope lists, each once: nothing else is ever read or sealed."""
    listed = frozenset(grant.scope.record_ids)
    found = {
        (ref.table, ref.id): ref
        for ref in mission.inputs
        if ref.module in INPUT_APPS and f"{ref.table}:{ref.id}" in listed
    }
    return list(found.values())


def _copies(
    asked: CopyRequest, work: Work, master_key: DataKey, data_key: DataKey
) -> tuple[list[SealedCopy], Answer]:
    """One bad record does not keep the others from their copies."""
    found: list[SealedCopy] = []
    faults: Answer = "too-large"
    for (table, record_id), source in work.sources.items():
        try:
            copy = copied(
                table,
                record_id,
                source.fields,
                master_key=master_key,
                data_key=data_key,
                new_iv=lambda: secrets.token_bytes(IV_BYTES),
            )
        except SealingError as exc:
            faults = "not-opened"
            log.warning(
                "record_not_copied user=%s mission=%s record=%s:%s reason=%s",
                asked.user, asked.mission, table, record_id, exc.reason,
            )  # fmt: skip
            continue
        if copy is None:
            continue
        # As the database writes JSON, with two blanks a field: more than this it refuses.
        size = len(msgspec.json.encode(copy.fields)) + 2 * len(copy.fields)
        if size <= LARGEST_CHARS:
            found.append(copy)
    return found, faults
