"""Who may ask: services by key, operators by a one-time token that becomes a session cookie."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http.cookies import CookieError, SimpleCookie

import msgspec
from starlette.datastructures import Headers

from state.store.people.store import Doer

LOGIN_S = 600.0
SESSION_S = 12 * 3600.0
MAX_LOGINS = 1000
MAX_COOKIE_CHARS = 256


def is_service(headers: Headers, key: str) -> bool:
    """Whether the caller brings the service key; takes the same time for every wrong one."""
    given = headers.get("x-service-key")
    if given is None:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            given = ""
    return secrets.compare_digest(_digest(given), _digest(key))


def _digest(text: str) -> bytes:
    """Of one length, so that a comparison tells nothing about the key's."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class Cookie(msgspec.Struct, frozen=True):
    """What a browser shows of an operator's session: its hash, and when it ends by itself."""

    hashed: bytes
    ends_at: datetime


class Sessions:
    """One-time login tokens, and the signature of session cookies; both doors have the same.

    A restarted gateway forgets the tokens. Another service key makes every cookie worthless.
    Whether a session is still open is a row: `operators.sessions` asks for it. `unwritten` has who
    began one whose row the database did not take yet.
    """

    def __init__(self, key: str, clock: Callable[[], float] = time.time) -> None:
        self._secret = hmac.digest(key.encode(), b"mana dashboard session", "sha256")
        self._clock = clock
        self._logins: dict[bytes, float] = {}
        self.unwritten: dict[bytes, Doer] = {}
        # Cookies know no ports: two installations on one host need two names.
        self.cookie = f"mana_{self._secret.hex()[:8]}"

    def new_login(self) -> str:
        """A token that opens one session within ten minutes."""
        now = self._clock()
        self._logins = {one: ends for one, ends in self._logins.items() if ends > now}
        if len(self._logins) >= MAX_LOGINS:
            self._logins.clear()
        token = secrets.token_urlsafe(24)
        self._logins[_digest(token)] = now + LOGIN_S
        return token

    def redeem(self, token: str) -> str | None:
        """The session cookie's value for a token, which is spent; None for a wrong or old one."""
        ends = self._logins.pop(_digest(token), None)
        if ends is None or ends <= self._clock():
            return None
        body = f"{int(self._clock() + SESSION_S)}.{secrets.token_urlsafe(12)}"
        return f"{body}.{self._signature(body)}"

    def forget_logins(self) -> None:
        """Tokens that nobody used yet open nothing any more."""
        self._logins.clear()

    def cookie_in(self, headers: Headers) -> Cookie | None:
        """The cookie of a request, if we made it and its time is not over."""
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return None
        return None if morsel is None else self.cookie_of(morsel.value)

    def cookie_of(self, value: str) -> Cookie | None:
        """The same for a cookie's value."""
        body, _, signature = value[: MAX_COOKIE_CHARS + 1].rpartition(".")
        if not secrets.compare_digest(_digest(signature), _digest(self._signature(body))):
            return None
        ends = int(body.partition(".")[0])  # signed, so it is a number
        if ends <= self._clock():
            return None
        return Cookie(_digest(value), datetime.fromtimestamp(ends, UTC))

    def _signature(self, body: str) -> str:
        return hmac.new(self._secret, body.encode("utf-8", "surrogatepass"), "sha256").hexdigest()
