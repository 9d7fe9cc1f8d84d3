"""What an owner's browser does for a mission, in Python: seal, ask for a grant, hand over copies.

Sealing happens here, where the master key is; the server gets nothing but ciphertext. To revoke,
write `grant: null` into the mission through sync, as any client does: copies go with it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import msgspec

from mana_actors.clients.answers import bounded_answer
from state.errors import TerminalError
from state.grants.grant import Derivation, derived_key
from state.sealing import forgiving_base64
from state.sealing.copies import SEALED_FIELDS, SealedCopy, copied
from state.sealing.derived_text import Place, opened_iteration
from state.sealing.values import IV_BYTES, DataKey, opened_record, sealed_record

GRANT = "/api/v1/me/ai-mission-grant"
CONSENT = f"{GRANT}/consent"
COPIES = "/api/v1/me/ai-sealed-copies"
DERIVED_KEY = "/api/v1/me/ai-derived-key"
MISSIONS = "/api/v1/me/ai-missions"
ANSWER_S = 60.0
Json = dict[str, Any]


class OwnerRefused(TerminalError):
    """The server said no: HTTP status, and the code that clients go by."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(status, code)
        self.status, self.code = status, code


class OwnerClient:
    """One person, with their token and master key; `http` has the server's address.

    Every method may raise AnswerUnreadable: no answer that can be used.
    """

    def __init__(
        self, http: httpx.AsyncClient, user: str, token: str, master_key: bytearray
    ) -> None:
        self._http, self._user, self._token, self._master_key = http, user, token, master_key

    def seal(self, table: str, record: Mapping[str, Any]) -> Json:
        """The record as it is synced: its secret fields under the master key."""
        with DataKey(bytearray(self._master_key)) as key:
            return sealed_record(record, SEALED_FIELDS[table], key, _new_iv)

    def open(self, record: Mapping[str, Any]) -> Json:
        """A synced record, readable; raises SealingError."""
        with DataKey(bytearray(self._master_key)) as key:
            return opened_record(record, key).record

    async def ask_for_grant(
        self, mission: str, records: Sequence[str], *, exposure: str = "local"
    ) -> Json:
        """A grant for `table:id` records, to be written into the mission; raises OwnerRefused."""
        return await self._asked("POST", GRANT, _wanted(mission, records, exposure))

    async def consent_text(
        self, mission: str, records: Sequence[str], *, exposure: str = "local"
    ) -> Json:
        """What such a grant would allow, in `lines` to agree to; raises OwnerRefused."""
        return await self._asked("POST", CONSENT, _wanted(mission, records, exposure))

    async def missions(self) -> list[Json]:
        """Own missions by id, each with its decision and reason; raises OwnerRefused."""
        page = await self._asked("GET", MISSIONS)
        found: list[Json] = page["missions"]
        while (after := page["after"]) is not None:
            page = await self._asked("GET", MISSIONS, params={"after": after})
            found = [*found, *page["missions"]]
        return found

    async def register_key(self, public_key: bytes) -> str:
        """Have what is made of decrypted records sealed for this raw X25519 key; its id.

        Keep the private key and older ones: nobody else can open what is sealed for them.
        """
        body = {"publicKey": forgiving_base64.encoded(public_key)}
        return (await self._asked("PUT", DERIVED_KEY, body))["keyId"]

    def open_iteration(
        self, mission: str, iteration: Mapping[str, Any], private_key: bytes
    ) -> Json:
        """An iteration, readable, to be shown or carried out; raises SealingError.

        What is written back is the sealed one, with states and feedback changed.
        """
        place = Place(self._user, mission, str(iteration.get("id")))
        return opened_iteration(dict(iteration), private_key, place)

    async def hand_over(self, grant: Json, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Give the mission its copies of synced records, by `table:id`; again after each change.

        Raises OwnerRefused, and SealingError where a record is not under the master key.
        """
        derivation = msgspec.convert(grant["derivation"], Derivation)
        made: list[SealedCopy | None] = []
        with derived_key(self._master_key, self._user, derivation) as key:
            for id_, record in records.items():
                table, _, record_id = id_.partition(":")
                with DataKey(bytearray(self._master_key)) as master_key:
                    made.append(
                        copied(
                            table,
                            record_id,
                            record,
                            master_key=master_key,
                            data_key=key,
                            new_iv=_new_iv,
                        )
                    )
        copies = [msgspec.to_builtins(copy) for copy in made if copy is not None]
        if copies:  # plain records are read as they are
            body = {"missionId": derivation.mission_id, "copies": copies}
            await self._asked("PUT", COPIES, body)

    async def _asked(
        self, verb: str, path: str, body: Json | None = None, params: Json | None = None
    ) -> Json:
        headers = {"Authorization": f"Bearer {self._token}"}
        raw = None if body is None else msgspec.json.encode(body)
        url = httpx.URL(path, params=params) if params else httpx.URL(path)
        answered = await bounded_answer(
            self._http, verb, str(url), within_s=ANSWER_S, headers=headers, content=raw
        )
        try:
            told = msgspec.json.decode(answered.content, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise OwnerRefused(answered.status_code, "") from None
        if answered.status_code != 200:
            raise OwnerRefused(answered.status_code, str(told.get("code", "")))
        return told


def _wanted(mission: str, records: Sequence[str], exposure: str) -> Json:
    tables = sorted({record.partition(":")[0] for record in records})
    body = {"missionId": mission, "tables": tables, "recordIds": list(records)}
    return {**body, "exposure": exposure}


def _new_iv() -> bytes:
    return secrets.token_bytes(IV_BYTES)
