"""What a way of signing in lets somebody do: every request of a person needs exactly one scope."""

from collections.abc import Iterable
from typing import Literal, get_args

Scope = Literal["read", "write", "approve", "keys", "account"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

MEANING: dict[Scope, str] = {
    "read": "see agents, missions, plans, runs and data",
    "write": "make and change agents and missions",
    "approve": "answer proposals, and approve in advance",
    "keys": "get at what opens encrypted records: vault, grants, sealed copies",
    "account": "make and end personal tokens and sign-ins",
}

Way = Literal["auth-service", "sign-in", "browser", "token", "operator"]
"""How somebody got in: by another service's token, as a client or a browser that signed in here, by
a personal token, or as an operator in that person's place."""

ALL: frozenset[Scope] = frozenset(SCOPES)
GRANTABLE: tuple[Scope, ...] = ("read", "write", "approve", "keys")
"""What a personal token can carry: one that leaks must not make others, nor outlive its end."""

OPERATORS: frozenset[Scope] = ALL - {"keys"}
"""What an operator can do in a person's place: never open what only that person may open."""


class ScopeUnknown(Exception):
    """Not a scope that a personal token can carry; `name` is what was asked."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"unknown scope {self.name[:40]!r}; known are {', '.join(GRANTABLE)}"


def scopes_from(names: Iterable[str]) -> tuple[Scope, ...]:
    """These scopes, each once and in our order; raises ScopeUnknown, also for none at all."""
    asked = set(names)
    for name in sorted(asked):
        if name not in GRANTABLE:
            raise ScopeUnknown(name)
    if not asked:
        raise ScopeUnknown("")
    return tuple(scope for scope in GRANTABLE if scope in asked)
