"""How the answers of one run are kept: as they are, or sealed once the run read secrets.

After a data key was released for a run, what it asks and hears may hold decrypted text. The keys
live until the run's end, however it ends; another attempt derives the same ones from the grant.
"""

from __future__ import annotations

import secrets
import uuid

import msgspec

from mana_actors.agent.planner.exchange import (
    ModelAnswer,
    ModelRequest,
    decode_answer,
    encode_answer,
    request_hash,
)
from state.sealing.journal import JournalKeys
from state.sealing.values import IV_BYTES, DataKey, SealingError


class Journal:
    """The form of one run's journal; `seal` comes before the first secret is read."""

    def __init__(self) -> None:
        self._keys: JournalKeys | None = None

    def seal(self, data_key: DataKey, run_id: uuid.UUID) -> None:
        """From here on answers are sealed, and nothing is written once the keys are wiped."""
        self.wipe()
        self._keys = JournalKeys(data_key, run_id)

    def digest(self, request: ModelRequest) -> str:
        """What names "the same question" in the journal."""
        if self._keys is None:
            return request_hash(request)
        return self._keys.digest(request.raw)

    def written(self, digest: str, answer: ModelAnswer) -> str:
        """The answer to the request with this digest, as the journal keeps it."""
        text = encode_answer(answer).decode()
        if self._keys is None:
            return text
        return self._keys.sealed(digest, text, secrets.token_bytes(IV_BYTES))

    def read(self, digest: str, text: str) -> ModelAnswer | None:
        """The answer that was written, None where it cannot be read: then it was not kept."""
        try:
            plain = text if self._keys is None else self._keys.opened(digest, text)
            return decode_answer(plain.encode())
        except (SealingError, msgspec.MsgspecError, RecursionError):
            return None

    def wipe(self) -> None:
        """Overwrite the keys; harmless when repeated."""
        if self._keys is not None:
            self._keys.wipe()
