"""Where a list goes on: the last row's key as a text that callers give back."""

import base64
import binascii
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec

from mana_actors.http.bodies import BadRequest

T = TypeVar("T")
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time that the database can compare."""
Key = Annotated[str, msgspec.Meta(max_length=512, pattern=r"^[^\0]*$")]
"""A text that the database can hold."""


def cursor(key: Any) -> str:
    """The key of a page's last row."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode()


def read_cursor(text: str, kind: type[T], field: str = "before") -> T:
    """The key in a cursor of ours; raises BadRequest for the parameter `field`."""
    try:
        return msgspec.json.decode(base64.b64decode(text, b"-_", validate=True), type=kind)
    except (msgspec.MsgspecError, binascii.Error, ValueError) as exc:
        raise not_a_cursor(field) from exc


def not_a_cursor(field: str = "before") -> BadRequest:
    """For a cursor that this list did not give."""
    return BadRequest(field, "is not a cursor of this list")
