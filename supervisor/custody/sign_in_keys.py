"""The keys that sign what people are let in by, where no other auth service does that.

They are files of the folder of keys: the newest signs, all that are there verify. A rotation is
seen within a minute, or when a token names a key that is not known yet; nothing is restarted.
"""

import base64
import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from state.rules.scopes import Way
from state.rules.sign_ins import ACCESS
from state.sealing import key_pairs
from supervisor.custody.key_folder import add_key, key_folder
from supervisor.node.credentials import read_secret
from supervisor.node.settings import SettingsError

ISSUER = "urn:mana:sign-in"
ALGORITHM = "EdDSA"
LOOK_AGAIN_S = 60.0
AT_MOST_EVERY_S = 1.0
_FIRST_KEY = threading.Lock()
"""Each door of a gateway has a thread: of two first keys, one would be unknown to the other."""
log = logging.getLogger("mana.gateway")


class SignInKeys:
    """Signs access tokens, and knows the public keys to check them by."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Makes the first key where there is none; raises SettingsError for a file that is none."""
        with _FIRST_KEY:
            if not key_folder(folder).sign_in_private:
                add_key(folder, "sign-in", datetime.now(UTC))
        self._folder, self._clock = folder, clock
        self._read()

    def signed(
        self, user: str, audience: str, *, way: Way, way_id: str | None, now: datetime
    ) -> str:
        """An access token for somebody who was let in; `way_id` is their sign-in."""
        self._look_again(LOOK_AGAIN_S)
        claims = {
            "sub": user,
            "iss": ISSUER,
            "aud": audience,
            "iat": now,
            "exp": now + ACCESS,
            "way": way,
            "sid": way_id,
        }
        return jwt.encode(claims, self._private, ALGORITHM, {"kid": self._kid})

    async def key(self, kid: str | None) -> Ed25519PublicKey | None:
        """The public key of this id, None for no key of ours."""
        if kid not in self._public:
            self._look_again(AT_MOST_EVERY_S)
        return self._public.get(kid) if kid is not None else None

    def key_set(self) -> dict[str, Any]:
        """The public keys as a JWK set (RFC 7517, 8037), for whoever checks our tokens."""
        self._look_again(LOOK_AGAIN_S)
        keys: list[dict[str, str]] = []
        for kid, key in self._public.items():
            x = base64.urlsafe_b64encode(key.public_bytes_raw()).decode().rstrip("=")
            kind = {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": ALGORITHM}
            keys.append({**kind, "x": x, "kid": kid})
        return {"keys": keys}

    def _look_again(self, after_s: float) -> None:
        if self._clock() - self._read_at < after_s:
            return
        try:
            self._read()
        except SettingsError as exc:  # what was good before still is
            self._read_at = self._clock()
            log.warning("sign_in_keys_unreadable problem=%s", exc)

    def _read(self) -> None:
        found = key_folder(self._folder)
        try:
            private = [
                key_pairs.issuer_private_key(read_secret("MANA_KEYS_DIR", path))
                for path in found.sign_in_private[:1]
            ]
            public = [
                key_pairs.issuer_public_key(read_secret("MANA_KEYS_DIR", path))
                for path in found.sign_in_public
            ]
        except key_pairs.KeyUnusable as exc:
            raise SettingsError("MANA_KEYS_DIR", f"a sign-in key {exc.problem}") from None
        if not private:
            raise SettingsError("MANA_KEYS_DIR", f"{self._folder} has no sign-in key")
        self._private: Ed25519PrivateKey = private[0]
        mine = self._private.public_key()
        self._kid = key_pairs.issuer_key_id(mine)
        self._public: Mapping[str, Ed25519PublicKey] = {
            key_pairs.issuer_key_id(key): key for key in (mine, *public)
        }
        self._read_at = self._clock()
