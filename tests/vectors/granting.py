"""How cases of the suites `grant` and `aesgcm` are put to our code."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from mana_actors.agent.inputs.sealed_inputs import (
    NOT_GRANTED,
    RecordReading,
    is_granted,
    read_record,
)
from state.grants import scopes
from state.grants.grant import (
    Derivation,
    DerivationRefused,
    Grantee,
    GrantFault,
    Trust,
    derived_key,
    opened_grant,
)
from state.grants.mint import (
    Issuer,
    MintRefused,
    checked_scope,
    minted_grant,
    not_configured,
    read_request,
)
from state.grants.vault import Vault, VaultRefused, usable
from state.log import merge
from state.log.merge import Change
from state.log.records import InputRef
from state.log.stamps import parse_instant
from state.sealing import key_pairs
from state.sealing.key_pairs import KeyUnusable
from state.sealing.values import DataKey, SealingError, opened, opened_record
from supervisor.custody.vaults import status_of
from tests.vectors.verdict import Case

Given = dict[str, Any]
USER = "u1"


# --- grant --------------------------------------------------------------------------------------


def give_grant(given: Given) -> Any:
    """The scope's text, a derived key, what unwrapping gives, or what minting answers."""
    return {"info": _info, "derive": _derive, "unwrap": _unwrap, "mint": _mint}[given["fn"]](given)


def _info(given: Given) -> Any:
    derivation = given["derivation"]
    return {"text": scopes.scope_text(derivation["tables"], derivation["recordIds"])}


def _derive(given: Given) -> Any:
    derivation = msgspec.convert(given["derivation"], Derivation)
    if derivation.version != "v1":
        return {"error": True}  # the original knows no other
    try:
        key = derived_key(bytes.fromhex(given["masterKeyHex"]), USER, derivation)
    except DerivationRefused:
        return {"error": True}
    with key:
        return {"mdkHex": key.material.hex()}


def _trust(given: Given) -> Trust:
    named: Any = given["key"]
    if named is None:
        return Trust()
    pem: str = given["keys"][named]["privatePem"] if isinstance(named, str) else named["pem"]
    try:
        return Trust((key_pairs.runner_private_key(pem),), accept_v1=True)
    except KeyUnusable:
        return Trust()


def _unwrap(given: Given) -> Any:
    claim = Grantee(USER, _mission(given["grant"]))
    now = parse_instant(given["now"]) or 0
    found = opened_grant(given["grant"], claim, _trust(given), now)
    if isinstance(found, GrantFault):
        return {"ok": False, "reason": found.reason}
    with found.key as key:
        return {"ok": True, "mdkHex": key.material.hex()}


def _mission(grant: Any) -> str:
    """The cases name no mission but the grant's own."""
    try:
        return str(grant["derivation"]["missionId"])
    except (KeyError, TypeError):
        return ""


def _mint(given: Given) -> Any:
    try:
        grant = _minted(given)
    except (MintRefused, VaultRefused) as exc:
        return {"status": status_of(exc.code), "code": exc.code}
    times = [parse_instant(grant[name]) or 0 for name in ("issuedAt", "expiresAt")]
    opening = {
        "key": given["publicKey"],
        "keys": given["keys"],
        "grant": grant,
        "now": given["now"],
    }
    return {
        "status": 200,
        "derivation": grant["derivation"],
        "issuedAt": grant["issuedAt"],
        "expiresAt": grant["expiresAt"],
        "ttlMs": (times[1] - times[0]) // 1_000_000,
        "mdkHex": _unwrap(opening)["mdkHex"],
    }


def _vault(state: str) -> Vault | None:
    if state == "missing":
        return None
    made = datetime(2026, 4, 1, tzinfo=UTC)
    wrap = "" if state == "ok" else None
    return Vault(wrapped_mk=wrap, wrap_iv=wrap, zero_knowledge=state != "ok", created_at=made)


def _minted(given: Given) -> Given:
    """The checks in the order that clients rely on, by an issuer that signs nothing."""
    request = read_request(given.get("body"))
    if not given["configured"]:
        raise not_configured()
    checked_scope(request)
    usable(_vault(given["vault"]))
    runner_key = key_pairs.runner_public_key(given["keys"][given["publicKey"]]["publicPem"])
    return minted_grant(
        request,
        user_id=USER,
        master_key=bytes.fromhex(given["masterKeyHex"]),
        issuer=Issuer(runner_key, None),
        now=parse_instant(given["now"]) or 0,
    )


# --- aesgcm -------------------------------------------------------------------------------------


def give_sealed(given: Given) -> Any:
    """An opened value or record, or how a granted record was read."""
    if given["fn"] == "resolve":
        return _resolve(given)
    with DataKey(bytearray.fromhex(given["keyHex"])) as key:
        try:
            if given["fn"] == "value":
                return {"ok": True, "value": opened(given["value"], key)}
            found = opened_record(given["record"], key)
        except SealingError:
            return {"ok": False}
    return {"ok": True, "record": found.record, "decryptedFields": list(found.fields)}


def _resolve(given: Given) -> Any:
    ref = InputRef(given["module"], given["ref"]["table"], given["ref"]["id"])
    reading = _reading(given, ref)
    row = {"table": ref.table, "recordId": ref.id, "status": reading.status}
    reason = {} if reading.reason is None else {"reason": reading.reason}
    return {
        "input": None if reading.input is None else msgspec.to_builtins(reading.input),
        "audit": [] if reading.status is None else [row | reason],
        "decryptedFields": reading.fields,
    }


def _reading(given: Given, ref: InputRef) -> RecordReading:
    if given["grant"] is None:
        return RecordReading()
    if not is_granted(ref, given["grant"]["recordIds"]):
        return NOT_GRANTED
    snapshot = merge.fold(None, _changes(given["rows"]))
    if merge.hidden(snapshot):
        return RecordReading()
    with DataKey(bytearray.fromhex(given["grant"]["keyHex"])) as key:
        return read_record(ref, snapshot.fields, key)


def _changes(rows: list[Given]) -> list[Change]:
    return [
        Change(
            f"00000000-0000-0000-0000-{at:012d}",
            (parse_instant(row["created_at"]) or 0) // 1000,
            row["op"],
            row["data"],
            row["field_meta"],
            USER,
        )
        for at, row in enumerate(rows, 1)
    ]


def view_sealed(value: Any, case: Case) -> Any:
    """What a case says of an input, and an audit's reason only where the case names one."""
    if case["input"]["fn"] != "resolve":
        return value
    expected: Given = case["expected"]
    return value | {
        "input": _shown(value["input"], expected["input"]),
        "audit": _reasons(value["audit"], expected["audit"]),
    }


def _reasons(audit: list[Given], expected: list[Given]) -> list[Given]:
    named = {"reason"} if any("reason" in row for row in expected) else set[str]()
    return [{k: v for k, v in row.items() if k != "reason" or k in named} for row in audit]


def _shown(found: Given | None, expected: Given | None) -> Given | None:
    if found is None or expected is None or "content" not in found:
        return found
    content: str = found["content"]
    shown = {name: found[name] for name in ("id", "module", "table", "title") if name in expected}
    for name in ("contains", "notContains"):
        if name in expected:
            wanted = name == "contains"
            shown[name] = [text for text in expected[name] if (text in content) == wanted]
    if "contentLength" in expected:
        shown["contentLength"] = len(content.encode("utf-16-le")) // 2
    return shown
