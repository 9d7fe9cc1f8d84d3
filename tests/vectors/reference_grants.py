"""Grants and sealed values worked out a second way, for the predicates and values of overrides."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import load_pem_private_key

Given = dict[str, Any]
LONGEST = timedelta(days=30)
SKEW = timedelta(minutes=5)


def _moment(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(cast("str", text))
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _has_key(given: Given) -> bool:
    key: Any = given["key"]
    if key is None or isinstance(key, str):
        return key is not None
    pem: str = key["pem"]
    if "-----BEGIN PRIVATE KEY-----" not in pem:
        return False
    try:
        load_pem_private_key(pem.encode(), None)
    except ValueError:
        return "\n" not in pem
    return True


def bad_claims(given: Given) -> bool:
    """An unwrap that reaches the checks before the key and fails one."""
    if given["fn"] != "unwrap" or not _has_key(given) or not isinstance(given["grant"], dict):
        return False
    grant = cast("Given", given["grant"])
    now, expires = _moment(given["now"]), _moment(grant.get("expiresAt"))
    assert now is not None
    if expires is None or expires < now:
        return False
    issued = _moment(grant.get("issuedAt"))
    derivation = grant.get("derivation")
    if issued is None or not isinstance(derivation, dict):
        return True
    lists = [cast("Given", derivation).get(name) for name in ("tables", "recordIds")]
    return (
        cast("Given", derivation).get("version") != "v1"
        or not isinstance(grant.get("wrappedKey"), str)
        or not all(_texts(part) for part in lists)
        or issued > now + SKEW
        or not timedelta() <= expires - issued <= LONGEST + SKEW
    )


def _texts(part: Any) -> bool:
    return isinstance(part, list) and all(isinstance(x, str) for x in cast("list[Any]", part))


def _is_typed_mint(given: Given) -> bool:
    if given["fn"] != "mint" or not given["configured"] or not isinstance(given.get("body"), dict):
        return False
    body: Given = given["body"]
    return (
        isinstance(body.get("missionId"), str)
        and bool(body["missionId"])
        and _texts(body.get("tables"))
        and _texts(body.get("recordIds"))
    )


def bad_scope(given: Given) -> bool:
    """A mint whose types are right and whose scope nobody may grant."""
    if not _is_typed_mint(given):
        return False
    tables: list[str] = given["body"]["tables"]
    records: list[str] = given["body"]["recordIds"]
    plain = all(0 < len(t) <= 64 and t.replace("_", "a").replace("-", "a").isalnum()
                and t.isascii() for t in tables)  # fmt: skip
    return not plain or len(set(tables)) > 32 or not all(_is_record(r, tables) for r in records)


def _is_record(record: str, tables: list[str]) -> bool:
    table, _, name = record.partition(":")
    printable = all(c >= " " and c not in ",\x7f" for c in name)
    return table in tables and bool(name) and printable and len(record.encode()) <= 512


def repeated_scope(given: Given) -> bool:
    """A mint that succeeds and lists something twice."""
    if not _is_typed_mint(given) or bad_scope(given) or given["vault"] != "ok":
        return False
    tables, records = given["body"]["tables"], given["body"]["recordIds"]
    repeats = len({*tables}) < len(tables) or len({*records}) < len(records)
    return repeats and 0 < len(records) <= 1000


def minted_once(given: Given) -> Any:
    """What that mint gives, each entry once."""
    body = given["body"]
    ttl = body.get("ttlMs")
    is_number = isinstance(ttl, int | float) and not isinstance(ttl, bool)
    ms = int(min(max(ttl, 3_600_000), 2_592_000_000)) if is_number else 604_800_000
    now = _moment(given["now"])
    assert now is not None
    lists = [
        sorted({*body[name]}, key=lambda s: s.encode("utf-16-be"))
        for name in ("tables", "recordIds")
    ]
    info = f"mana-ai-mission-grant:v1:tables={','.join(lists[0])}:ids={','.join(lists[1])}"
    master = bytes.fromhex(given["masterKeyHex"])
    extracted = hmac.digest(body["missionId"].encode(), master, hashlib.sha256)
    return {
        "status": 200,
        "derivation": {"version": "v1", "missionId": body["missionId"], "tables": lists[0],
                       "recordIds": lists[1]},
        "issuedAt": _text(now),
        "expiresAt": _text(now + timedelta(milliseconds=ms)),
        "ttlMs": ms,
        "mdkHex": hmac.digest(extracted, info.encode() + b"\x01", hashlib.sha256).hex(),
    }  # fmt: skip


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- sealed values ------------------------------------------------------------------------------


def _plain(value: Any, key_hex: str) -> bytes | None:
    """The bytes inside a sealed text, None where there are none."""
    if not isinstance(value, str) or not value.startswith("enc:1:") or "." not in value:
        return None
    iv, _, body = value.removeprefix("enc:1:").partition(".")
    try:
        parts = [base64.b64decode("".join(part.split()) + "==") for part in (iv, body)]
        return AESGCM(bytes.fromhex(key_hex)).decrypt(parts[0], parts[1], None)
    except (ValueError, InvalidTag):
        return None


def _fields(given: Given) -> list[Any]:
    if given["fn"] == "value":
        return [given["value"]]
    if given["fn"] == "record":
        return list(given["record"].values())
    return [] if given["grant"] is None else list(_latest(given).values())


def _latest(given: Given) -> Given:
    """The record's fields by row order: enough for predicates, whose rows come in order."""
    merged: Given = {}
    for row in given["rows"]:
        merged |= row["data"] or {}
    return merged


def holds_bad_utf8(given: Given) -> bool:
    """A sealed text whose tag fits and whose plaintext is no UTF-8."""
    key: str = given["keyHex"] if "keyHex" in given else _granted_key(given)
    found = [_plain(value, key) for value in _fields(given)]
    return any(plain is not None and not _is_utf8(plain) for plain in found)


def _granted_key(given: Given) -> str:
    return given["grant"]["keyHex"] if given["grant"] else ""


def _is_utf8(plain: bytes) -> bool:
    try:
        plain.decode()
    except UnicodeDecodeError:
        return False
    return True


def failed_opening(given: Given) -> Any:
    """What a failed decryption gives."""
    if given["fn"] != "resolve":
        return {"ok": False}
    row = {"table": given["ref"]["table"], "recordId": given["ref"]["id"], "status": "failed"}
    return {"input": None, "audit": [row | {"reason": "decrypt-failed"}], "decryptedFields": 0}


def reads_plain_record(given: Given) -> bool:
    """A granted record that is there and holds no ciphertext."""
    if given["fn"] != "resolve" or given["grant"] is None or not given["rows"]:
        return False
    ref, fields = given["ref"], _latest(given)
    granted = f"{ref['table']}:{ref['id']}" in given["grant"]["recordIds"]
    gone = given["rows"][-1]["op"] == "delete" or fields.get("deletedAt")
    sealed = any(isinstance(v, str) and v.startswith("enc:1:") for v in fields.values())
    return granted and not gone and not sealed


def unaudited(given: Given) -> Any:
    """The record as it stands, and no audit row."""
    ref, fields = given["ref"], _latest(given)
    shown = {"id": ref["id"], "module": ref["module"], "table": ref["table"]}
    texts = [v for k, v in fields.items() if k in ("content", "description", "location")]
    named = {"title": fields["title"]} if fields.get("title") else {}
    held = {"contains": [t for t in texts if isinstance(t, str)], "notContains": ["enc:1:"]}
    return {"input": shown | named | held, "audit": [], "decryptedFields": 0}
