"""Who may ask: services by key, operators by a one-time token that becomes a session cookie."""

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers

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


class Sessions:
    """One-time login tokens, kept here, and session cookies, which carry their own proof.

    A restarted gateway forgets the tokens and still knows the sessions, also those that were
    ended before; another key ends both.
    """

    def __init__(self, key: str, clock: Callable[[], float] = time.time) -> None:
        self._secret = hmac.digest(key.encode(), b"mana dashboard session", "sha256")
        self._clock = clock
        self._logins: dict[bytes, float] = {}
        self._ended: dict[bytes, float] = {}
        self._ending = threading.Lock()  # both doors end sessions, each in its thread
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

    def is_open(self, headers: Headers) -> bool:
        """Whether a request carries a session that has not ended."""
        return self._open(headers) is not None

    def end(self, headers: Headers) -> None:
        """End the session that a request carries, for every copy of its cookie."""
        body = self._open(headers)
        if body is None:
            return
        now = self._clock()
        with self._ending:
            self._ended = {one: ends for one, ends in self._ended.items() if ends > now}
            self._ended[_digest(body)] = _end_of(body)

    def _open(self, headers: Headers) -> str | None:
        """What the cookie's signature covers, of a session that has not ended."""
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return None
        if morsel is None or len(morsel.value) > MAX_COOKIE_CHARS:
            return None
        body, _, signature = morsel.value.rpartition(".")
        if not secrets.compare_digest(_digest(signature), _digest(self._signature(body))):
            return None
        return body if _end_of(body) > self._clock() and _digest(body) not in self._ended else None

    def _signature(self, body: str) -> str:
        return hmac.new(self._secret, body.encode("utf-8", "surrogatepass"), "sha256").hexdigest()


def _end_of(body: str) -> int:
    """When the session ends by itself, in seconds since 1970."""
    return int(body.partition(".")[0])
