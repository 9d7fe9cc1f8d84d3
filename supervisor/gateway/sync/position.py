"""How far a device has come, as the text that it keeps and sends back (`since`). Pure.

It is an instant with nine digits, of one width, so that texts compare as positions do. The last
three tell rows of one microsecond apart; a text with fewer digits stands before all of those.
"""

from state.log.stamps import NS_PER_US, format_instant, parse_instant
from state.store.gateway.sync_feeds import Position

_DIGITS = len("2026-04-26T10:00:05.123456789Z")
START = Position(0, -1)


def position_text(position: Position) -> str:
    """The position as devices keep it."""
    told = format_instant(position.at_us * NS_PER_US + max(position.slot, 0))
    return told.removesuffix("Z").ljust(_DIGITS - 1, "0") + "Z"


def read_position(text: str) -> Position:
    """Where a device is; what is no instant stands for the beginning."""
    instant = parse_instant(text)
    if instant is None:
        return START
    at_us, slot = divmod(instant, NS_PER_US)
    return Position(at_us, slot if len(text) == _DIGITS and text.endswith("Z") else -1)
