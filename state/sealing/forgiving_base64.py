"""Base64 as browsers read it with `atob` (the web's "forgiving-base64 decode").

Blanks are skipped and padding is optional; the URL-safe alphabet is refused.
"""

from __future__ import annotations

import base64
import binascii
import re

_BLANKS = re.compile(r"[\t\n\f\r ]+")
_DIGITS = re.compile(r"[A-Za-z0-9+/]*\Z")


def decoded(text: str) -> bytes | None:
    """The bytes that `text` stands for, or None."""
    bare = _BLANKS.sub("", text)
    if len(bare) % 4 == 0:
        bare = bare.removesuffix("=").removesuffix("=")
    if len(bare) % 4 == 1 or not _DIGITS.match(bare):
        return None
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4))
    except binascii.Error:
        return None


def encoded(raw: bytes | bytearray) -> str:
    """Standard base64 with padding."""
    return base64.b64encode(raw).decode()
