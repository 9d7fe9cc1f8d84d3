"""Answers of a run that read secrets, sealed under keys that only a live grant gives.

Both keys are derived from the mission's data key while it is held, and serve one run alone. An
answer is sealed together with the digest of its request, so that it passes for no other's answer.
"""
# ruff: noqa: PLC0415 - an agent without a grant never pays for cryptography

from __future__ import annotations

import hmac
import uuid
from typing import Any

from state.sealing.values import KEY_BYTES, CiphertextRejected, DataKey, opened, sealed

ANSWERS_INFO = b"mana-ai-journal:v1"
DIGESTS_INFO = b"mana-ai-journal-hash:v1"


class JournalKeys:
    """The two keys of one run's journal; once wiped with the run, every use raises ValueError."""

    def __init__(self, data_key: DataKey, run_id: uuid.UUID) -> None:
        self._answers = _derived(data_key, run_id, ANSWERS_INFO)
        self._digests = _derived(data_key, run_id, DIGESTS_INFO)

    def digest(self, request: bytes) -> str:
        """HMAC-SHA256 (hex) of a request; a plain hash would confirm a guess at its secrets."""
        return hmac.new(self._digests.material, request, "sha256").hexdigest()

    def sealed(self, digest: str, answer: str, iv: bytes) -> str:
        """The answer to the request with this digest, as `enc:1:` text; `iv` is fresh."""
        return sealed([digest, answer], self._answers, iv)

    def opened(self, digest: str, text: str) -> str:
        """The answer inside; raises SealingError, also where it is plain or answers another."""
        found: Any = opened(text, self._answers)
        match found:  # plain text comes back as it is, and is no pair
            case [str(asked), str(answer)] if asked == digest:
                return answer
            case _:
                raise CiphertextRejected

    def wipe(self) -> None:
        """Overwrite both keys; harmless when repeated."""
        self._answers.wipe()
        self._digests.wipe()


def _derived(data_key: DataKey, run_id: uuid.UUID, info: bytes) -> DataKey:
    """HKDF-SHA-256 of the data key with the run's 16 bytes as salt."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    key = bytearray(KEY_BYTES)
    hkdf = HKDF(hashes.SHA256(), KEY_BYTES, salt=run_id.bytes, info=info)
    hkdf.derive_into(data_key.material, key)
    return DataKey(key)
