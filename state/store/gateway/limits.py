"""What operators allow, and what an agent has left, as the gateway reads and sets it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

LimitKind = Literal["installation", "each-user", "each-agent", "user", "agent"]


class Limit(msgspec.Struct, frozen=True):
    """One limit over 24 hours; `micros` is money in millionths of its currency, None: no limit.

    `each-agent` is what an agent gets whose owner and operator say nothing else.
    """

    kind: LimitKind
    user_id: str
    agent_id: str
    tokens: int | None
    micros: int | None
    set_at: datetime


class LimitChange(msgspec.Struct, frozen=True):
    """A limit to set: fields left UNSET stay as they are, None lifts them."""

    kind: LimitKind
    user_id: str = ""
    agent_id: str = ""
    tokens: int | msgspec.UnsetType | None = msgspec.UNSET
    micros: int | msgspec.UnsetType | None = msgspec.UNSET


class LimitState(msgspec.Struct, frozen=True):
    """The last 24 hours under one cap: of the agent, its user, or the installation.

    `source` says whose cap it is: owner, operator, default or none. `back_at` is when room returns
    under a cap that is used up, else when the oldest use leaves the window.
    """

    scope: str
    source: str
    cap: int | None
    used: int
    held: int
    micros_cap: int | None
    micros_used: int
    micros_held: int
    back_at: datetime | None


class Budget(msgspec.Struct, frozen=True):
    """What an agent may spend and has spent in 24 hours; `limits` has every cap that binds it.

    `left` is the least of what the token caps leave, None without any.
    """

    cap: int | None
    cap_source: str
    used: int
    held: int
    left: int | None
    back_at: datetime | None
    cost_micros_used: int
    limits: tuple[LimitState, ...]
