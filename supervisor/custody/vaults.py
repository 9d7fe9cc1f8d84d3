"""Keeping people's master keys: what each vault request does, and the trail it leaves.

A key leaves only after its row in the trail is durable; a refusal leaves a row of its own, which
stands although everything else is undone.
"""

import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from datetime import datetime
from typing import Any, assert_never

import msgspec

from state.grants.vault import (
    FORMAT_VERSION,
    Kek,
    MasterKeyNotOpened,
    RefusalCode,
    Vault,
    VaultRefused,
    Wrap,
    bad_request,
    cleared_of_recovery,
    in_zero_knowledge,
    is_same_key,
    key_check,
    new_vault,
    out_of_zero_knowledge,
    present,
    rotated,
    unwrapped,
    usable,
    with_recovery,
    wrapped,
)
from state.log.stamps import format_instant, instant_of
from state.rules.scopes import Scope, Way
from state.sealing.forgiving_base64 import encoded
from state.sealing.values import IV_BYTES, KEY_BYTES, DataKey
from state.store.issuer import Action, Entry, Opened, VaultStore

log = logging.getLogger("mana.gateway")
Json = dict[str, Any]


def status_of(code: RefusalCode) -> int:
    """The HTTP status that a refusal is answered with, which the trail of vaults keeps too."""
    match code:
        case "BAD_REQUEST" | "RECOVERY_WRAP_MISSING":
            return 400
        case "VAULT_NOT_INITIALISED" | "MISSION_NOT_FOUND":
            return 404
        case "ZK_ACTIVE" | "ZK_ROTATE_FORBIDDEN" | "NO_GRANT":
            return 409
        case "VAULT_NOT_CONFIGURED" | "GRANT_NOT_CONFIGURED":
            return 503
        case _:
            assert_never(code)


class Caller(msgspec.Struct, frozen=True):
    """Who asks, by which way in, what that lets them do, and from where as far as they say.

    `spaces` are the shared spaces they are a member of now. `way` says how they signed in and
    `way_id` which sign-in or token that was.
    """

    user: str
    display_name: str | None = None
    scopes: frozenset[Scope] = frozenset()
    spaces: tuple[str, ...] = ()
    way: Way = "auth-service"
    way_id: str | None = None
    ip_address: str | None = None
    user_agent: str | None = None


class Custody:
    """Everything that happens to master keys."""

    def __init__(
        self, store: VaultStore, kek: Kek, random: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._store, self._kek, self._random = store, kek, random

    async def status(self, caller: Caller) -> Json:
        """What there is, without touching any key; leaves no row."""
        vault = await self._store.find(caller.user)
        set_at = vault.recovery_set_at if vault else None
        return {
            "vaultExists": vault is not None,
            "hasRecoveryWrap": vault is not None and vault.recovery_wrapped_mk is not None,
            "zeroKnowledge": vault is not None and vault.zero_knowledge,
            "recoverySetAt": None if set_at is None else format_instant(instant_of(set_at)),
        }

    async def init(self, caller: Caller) -> Json:
        """The key, of a new vault where there is none."""
        async with self._audited(caller, "init") as opened:
            await self._ensured(opened)
            return self._key_result(opened.vault)

    async def key(self, caller: Caller) -> Json:
        """The key."""
        async with self._audited(caller, "fetch", "failed_fetch") as opened:
            return self._key_result(present(opened.vault))

    async def rotate(self, caller: Caller) -> Json:
        """A new key; the old one is gone."""
        async with self._audited(caller, "rotate") as opened:
            if opened.vault is None:
                await self._ensured(opened)
            else:
                with self._new_key() as key:
                    await opened.save(rotated(opened.vault, self._wrap(key), opened.now))
                    await opened.save_key_check(key_check(key))
            return self._key_result(opened.vault)

    async def set_recovery(self, caller: Caller, wrap: Wrap) -> None:
        """Keep what only the person's recovery code opens."""
        async with self._audited(caller, "recovery_set") as opened:
            vault = present(opened.vault)
            await opened.save(with_recovery(vault, wrap, opened.now))

    async def clear_recovery(self, caller: Caller) -> None:
        """Drop it."""
        async with self._audited(caller, "recovery_clear") as opened:
            await opened.save(cleared_of_recovery(present(opened.vault)))

    async def enable_zero_knowledge(self, caller: Caller) -> None:
        """Forget the key, and keep what it is recognised by."""
        async with self._audited(caller, "zk_enable") as opened:
            vault = present(opened.vault)
            if vault.zero_knowledge:
                return
            after = in_zero_knowledge(vault)
            with unwrapped(vault, self._kek) as key:
                await opened.save_key_check(key_check(key))
            await opened.save(after)

    async def disable_zero_knowledge(self, caller: Caller, key: DataKey) -> None:
        """Keep the key again; another than the vault's is refused wherever we can tell."""
        async with self._audited(caller, "zk_disable") as opened:
            vault = present(opened.vault)
            if not vault.zero_knowledge:
                return
            check = await opened.key_check()
            if check is not None and not is_same_key(key, check):
                raise bad_request("masterKey is not the key of this vault")
            await opened.save(out_of_zero_knowledge(vault, self._wrap(key)))
            await opened.save_key_check(key_check(key))

    async def key_since(self, user: str) -> datetime:
        """Since when a person's key is the one; raises VaultRefused where none could be lent.

        Leaves no row.
        """
        return usable(await self._store.find(user)).key_since

    async def lent(
        self, caller: Caller, purpose: str, allowed: Callable[[], Awaitable[None]]
    ) -> DataKey:
        """The key for a purpose that the trail names; the borrower wipes it.

        `allowed` is awaited once the vault is known to be usable, and raises VaultRefused if the
        purpose is none.
        """
        async with self._refusals_kept(caller, "failed_fetch", purpose):
            usable(await self._store.find(caller.user))
            await allowed()
        with ExitStack() as kept:
            async with self._audited(caller, "fetch", "failed_fetch", purpose) as opened:
                vault = usable(opened.vault)
                key = kept.enter_context(unwrapped(vault, self._kek))
            kept.pop_all()
            return key

    async def close(self) -> None:
        """Close the connections."""
        await self._store.close()

    @asynccontextmanager
    async def _audited(
        self,
        caller: Caller,
        action: Action,
        failed: Action | None = None,
        purpose: str | None = None,
    ) -> AsyncGenerator[Opened]:
        """The vault, and a row that becomes durable together with what the block does to it."""
        async with (
            self._refusals_kept(caller, failed or action, purpose),
            self._store.opened(caller.user) as opened,
        ):
            yield opened
            await opened.record(_entry(caller, action, 200, purpose))

    @asynccontextmanager
    async def _refusals_kept(
        self, caller: Caller, action: Action, purpose: str | None
    ) -> AsyncGenerator[None]:
        """Around a transaction: what it refused gets a row of its own."""
        try:
            yield
        except VaultRefused as exc:
            context = " ".join(part for part in (purpose, exc.code) if part)
            await self._store.record(
                caller.user, _entry(caller, action, status_of(exc.code), context)
            )
            raise
        except MasterKeyNotOpened as exc:
            log.warning("master_key_not_opened user=%s problem=%s", caller.user, exc.problem)
            entry = _entry(caller, action, 500, "MASTER_KEY_NOT_OPENED")
            await self._store.record(caller.user, entry)
            raise

    async def _ensured(self, opened: Opened) -> None:
        if opened.vault is not None:
            return
        with self._new_key() as key:
            mine = new_vault(self._wrap(key), opened.now)
            if await opened.add(mine) == mine:
                await opened.save_key_check(key_check(key))

    def _new_key(self) -> DataKey:
        return DataKey(bytearray(self._random(KEY_BYTES)))

    def _wrap(self, key: DataKey) -> Wrap:
        return wrapped(key, self._kek, self._random(IV_BYTES))

    def _key_result(self, vault: Vault | None) -> Json:
        """The key for its owner; in zero-knowledge mode, what the recovery code opens."""
        vault = present(vault)
        if vault.zero_knowledge:
            return {
                "requiresRecoveryCode": True,
                "recoveryWrappedMk": vault.recovery_wrapped_mk,
                "recoveryIv": vault.recovery_iv,
                "formatVersion": vault.recovery_format_version or FORMAT_VERSION,
            }
        with unwrapped(vault, self._kek) as key:
            text = encoded(key.material)
        return {"masterKey": text, "formatVersion": vault.format_version, "kekId": vault.kek_id}


def _entry(caller: Caller, action: Action, status: int, context: str | None) -> Entry:
    return Entry(
        action=action,
        status=status,
        context=context,
        ip_address=caller.ip_address,
        user_agent=caller.user_agent,
    )
