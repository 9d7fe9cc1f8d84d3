"""`/api/v1/me/encryption-vault/*`: requests in, key results out."""

from starlette.requests import Request
from starlette.responses import Response

from mana_actors.http.bodies import answer
from state.grants.vault import VaultRefused, bad_request, read_master_key, read_recovery
from supervisor.custody.vaults import Caller, Custody
from supervisor.gateway.people.owners import Owners
from supervisor.gateway.people.requests import json_object

OK = {"ok": True}


async def get_status(_: Request, caller: Caller, owners: Owners) -> Response:
    """Whether there is a vault, a recovery wrap, zero knowledge."""
    return answer(await _custody(owners).status(caller))


async def post_init(_: Request, caller: Caller, owners: Owners) -> Response:
    """The key, of a new vault where there is none."""
    return answer(await _custody(owners).init(caller))


async def get_key(_: Request, caller: Caller, owners: Owners) -> Response:
    """The key."""
    return answer(await _custody(owners).key(caller))


async def post_rotate(_: Request, caller: Caller, owners: Owners) -> Response:
    """A new key in place of the old one."""
    return answer(await _custody(owners).rotate(caller))


async def post_recovery_wrap(request: Request, caller: Caller, owners: Owners) -> Response:
    """Set or replace the recovery wrap."""
    custody, body = _custody(owners), await json_object(request)
    wrap = read_recovery(body.get("recoveryWrappedMk"), body.get("recoveryIv"))
    await custody.set_recovery(caller, wrap)
    return answer(OK)


async def delete_recovery_wrap(_: Request, caller: Caller, owners: Owners) -> Response:
    """Drop the recovery wrap."""
    await _custody(owners).clear_recovery(caller)
    return answer(OK)


async def post_zero_knowledge(request: Request, caller: Caller, owners: Owners) -> Response:
    """Forget the key, or keep it again."""
    custody, body = _custody(owners), await json_object(request)
    enable = body.get("enable")
    if not isinstance(enable, bool):
        raise bad_request("enable must be true or false")
    if enable:
        await custody.enable_zero_knowledge(caller)
    else:
        with read_master_key(body.get("masterKey")) as key:
            await custody.disable_zero_knowledge(caller, key)
    return answer(OK | {"zeroKnowledge": enable})


def _custody(owners: Owners) -> Custody:
    if owners.custody is None:
        raise VaultRefused("VAULT_NOT_CONFIGURED", "this server keeps no vaults")
    return owners.custody
