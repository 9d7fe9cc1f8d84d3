"""How long what lets somebody in is good for, and what a refresh token that comes back means."""

import base64
import hashlib
import hmac
from datetime import datetime, timedelta
from typing import Literal

LINK = timedelta(minutes=30)
ACCESS = timedelta(minutes=10)
UNUSED = timedelta(days=7)
"""A sign-in that is not used for so long is over."""
AT_MOST = timedelta(days=90)
"""After this a person signs in anew, however busy."""
GRACE = timedelta(seconds=30)
"""Two tabs may bring one refresh token at once, and an answer may get lost: both get the same next
one. Whoever brings a replaced token later has an old copy, and the sign-in ends for all."""
BROWSER_LINK = timedelta(minutes=2)
"""A link that somebody who is known asks for, to open pages in a browser of theirs at once."""
VISIT = timedelta(hours=12)
"""Of a browser whose person another auth service knows, which cannot say when it does no more."""
TOKEN_LIFE = timedelta(days=30)
LONGEST_TOKEN_LIFE = timedelta(days=366)

PERSONAL = "mana_pat_"
REFRESH = "mana_rt_"

Verdict = Literal["rotate", "again", "reused", "over"]


def hash_of(secret: str) -> bytes:
    """What is stored of a secret of ours; those are random, so that one hash is enough."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def next_refresh_token(token: str, chain_secret: bytes) -> str:
    """The token that takes this one's place: the same each time, and no use without this one."""
    made = hmac.digest(chain_secret, token.encode("utf-8", "surrogatepass"), "sha256")
    return REFRESH + base64.urlsafe_b64encode(made).decode().rstrip("=")


def verdict(replaced_at: datetime | None, *, is_over: bool, now: datetime) -> Verdict:
    """What to do about a refresh token of a sign-in: give the next one, or end it."""
    if is_over:
        return "over"
    if replaced_at is None:
        return "rotate"
    return "again" if now - replaced_at <= GRACE else "reused"


def good_until(made_at: datetime, now: datetime) -> datetime:
    """When a sign-in that is used now ends unless it is used again."""
    return min(now + UNUSED, made_at + AT_MOST)
