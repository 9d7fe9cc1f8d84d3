"""Leave for a mission to read sealed records: asked for, renewed, and the copies handed over.

To give it, write the grant into the mission; to revoke, write `grant: null`: copies go with it. It
works without a local store, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from mana_actors.client.owner.sealing import Json, OwnerKeys
from mana_actors.clients.answers import bounded_answer
from state.errors import TerminalError
from state.grants.grant import Derivation
from state.log.stamps import datetime_of, parse_instant
from state.sealing import forgiving_base64
from state.sealing.copies import MOST_AT_ONCE

if TYPE_CHECKING:
    import httpx2

GRANT = "/api/v1/me/ai-mission-grant"
CONSENT = f"{GRANT}/consent"
COPIES = "/api/v1/me/ai-sealed-copies"
DERIVED_KEY = "/api/v1/me/ai-derived-key"
MISSIONS = "/api/v1/me/ai-missions"
ANSWER_S = 60.0


class GrantRefused(TerminalError):
    """The server said no: HTTP status, and the code that clients go by."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(status, code)
        self.status, self.code = status, code

    def __str__(self) -> str:
        return f"the server refused ({self.status}): {self.code or 'it does not say why'}"


class MissionGrants:
    """One person's grants, with their token and keys; `http` has the server's address.

    Every method may raise GrantRefused, and AnswerUnreadable: no answer that can be used.
    """

    def __init__(self, http: httpx2.AsyncClient, token: str, keys: OwnerKeys) -> None:
        self._http, self._token, self.keys = http, token, keys

    async def ask(self, mission: str, records: Sequence[str], *, exposure: str = "local") -> Json:
        """A grant for `table:id` records, to be written into the mission."""
        return await self._asked("POST", GRANT, _wanted(mission, records, exposure))

    async def renewed(
        self, grant: Mapping[str, Any], now: datetime, *, within: timedelta = timedelta(days=2)
    ) -> Json | None:
        """The same leave anew where it ends within that time, else None; copies stay good."""
        ends = parse_instant(str(grant.get("expiresAt")))
        if ends is not None and datetime_of(ends) > now + within:
            return None
        of = msgspec.convert(grant["derivation"], Derivation)
        exposure = str(grant.get("exposure", "local"))
        body = {"missionId": of.mission_id, "tables": of.tables, "recordIds": of.record_ids}
        return await self._asked("POST", GRANT, {**body, "exposure": exposure})

    async def consent_text(
        self, mission: str, records: Sequence[str], *, exposure: str = "local"
    ) -> Json:
        """What such a grant would allow, in `lines` to agree to."""
        return await self._asked("POST", CONSENT, _wanted(mission, records, exposure))

    async def hand_over(self, grant: Json, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Give the mission its copies of synced records, by `table:id`; again after each change.

        Raises SealingError where a record is not under the master key.
        """
        derivation = msgspec.convert(grant["derivation"], Derivation)
        copies = [msgspec.to_builtins(one) for one in self.keys.copies(derivation, records)]
        for first in range(0, len(copies), MOST_AT_ONCE):
            some = copies[first : first + MOST_AT_ONCE]
            await self._asked("PUT", COPIES, {"missionId": derivation.mission_id, "copies": some})

    async def register_key(self, public_key: bytes) -> str:
        """Have what is made of decrypted records sealed for this raw X25519 key; its id.

        Keep the private key and older ones: nobody else can open what is sealed for them.
        """
        body = {"publicKey": forgiving_base64.encoded(public_key)}
        return (await self._asked("PUT", DERIVED_KEY, body))["keyId"]

    async def missions(self) -> list[Json]:
        """Own missions by id, each with its decision and reason."""
        found: list[Json] = []
        params: dict[str, str] = {}
        while True:
            page = await self._asked("GET", MISSIONS, params=params)
            found += page["missions"]
            if page["after"] is None:
                return found
            params = {"after": page["after"]}

    async def _asked(
        self, verb: str, path: str, body: Json | None = None, params: Json | None = None
    ) -> Json:
        import httpx2  # noqa: PLC0415 - who only seals does not pay for it

        headers = {"Authorization": f"Bearer {self._token}"}
        raw = None if body is None else msgspec.json.encode(body)
        url = httpx2.URL(path, params=params) if params else httpx2.URL(path)
        answered = await bounded_answer(
            self._http, verb, str(url), within_s=ANSWER_S, headers=headers, content=raw
        )
        try:
            told = msgspec.json.decode(answered.content, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise GrantRefused(answered.status_code, "") from None
        if answered.status_code != 200:
            raise GrantRefused(answered.status_code, str(told.get("code", "")))
        return told


def _wanted(mission: str, records: Sequence[str], exposure: str) -> Json:
    tables = sorted({record.partition(":")[0] for record in records})
    body = {"missionId": mission, "tables": tables, "recordIds": list(records)}
    return {**body, "exposure": exposure}
