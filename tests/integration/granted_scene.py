"""Grants of any kind with the copies that go with them, for runs that read sealed records."""

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from state.grants.grant import Derivation, derived_key
from state.grants.mint import Issuer, minted_grant, read_request
from state.rules.exposure import Exposure
from state.sealing import key_pairs
from state.sealing.copies import SEALED_FIELDS
from state.sealing.values import DataKey, sealed_record
from tests.integration.key_scene import MASTER_KEY, PEMS, SIGNING_KEY
from tests.integration.support import Json, World

Records = Mapping[tuple[str, str], Json]
"""By table and id, as their owner reads them."""


def granted(
    records: Sequence[str] = ("notes:n1",),
    *,
    version: str = "v2",
    mission: str = "m1",
    age_s: float = 0,
    exposure: Exposure = "local",
) -> Json:
    """A grant for these `table:id` records, signed unless it is of the original's version."""
    tables = sorted({record.partition(":")[0] for record in records})
    body: Json = {"missionId": mission, "tables": tables, "recordIds": list(records)}
    signing_key = SIGNING_KEY if version == "v2" else None
    return minted_grant(
        read_request(body),
        user_id="u1",
        master_key=MASTER_KEY,
        issuer=Issuer(key_pairs.runner_public_key(PEMS["a"]["publicPem"]), signing_key),
        now=time.time_ns() - int(age_s * 1e9),
        exposure=exposure,
    )


def listing(grant: Json, *records: str) -> Json:
    """The grant with more records in its list than were signed."""
    derivation: Json = grant["derivation"]
    tables = sorted({*derivation["tables"], *(record.partition(":")[0] for record in records)})
    more = {"tables": tables, "recordIds": sorted([*derivation["recordIds"], *records])}
    return grant | {"derivation": derivation | more}


def data_key(grant: Json) -> DataKey:
    """The key that the grant wraps, derived as its owner's client does."""
    of: Json = grant["derivation"]
    derivation = Derivation(of["version"], of["missionId"], of["tables"], of["recordIds"])
    return derived_key(MASTER_KEY, "u1", derivation)


def sealed(table: str, record: Json, key: DataKey) -> Json:
    """A record with its table's secret fields sealed."""
    return sealed_record(record, SEALED_FIELDS[table], key, lambda: secrets.token_bytes(12))


async def hand_over(world: World, grant: Json, records: Records, mission: str = "m1") -> None:
    """What the owner's client and the gateway do: copies of these records under the grant's key."""
    with data_key(grant) as key:
        copies = [
            {"table": table, "id": id_, "fields": sealed(table, record, key)}
            for (table, id_), record in records.items()
        ]
    gateway = await world.connect("mana_gateway")
    wire = json.dumps(copies)
    assert await gateway.fetchval(
        "SELECT mana_ai.put_sealed_copies('u1', $1, $2::jsonb)", mission, wire
    )


async def push_sealed(world: World, apps: Mapping[str, str], records: Records) -> None:
    """The records as the owner's devices synced them: sealed under the master key."""
    client = await world.client("u1")
    with DataKey(bytearray(MASTER_KEY)) as key:
        for (table, id_), record in records.items():
            whole = sealed(table, record, key)
            await client.push("insert", id_, whole, table=table, app=apps[table])


def exposures(world: World) -> list[str]:
    """How far each prompt was allowed to travel, in order."""
    return [request.headers["x-mana-llm-exposure"] for request in world.provider.requests]


def prompts(world: World) -> str:
    """Everything that the provider was told."""
    return "\n".join(_text(request.body) for request in world.provider.requests)


def _text(body: Any) -> str:
    return json.dumps(body, ensure_ascii=False)
