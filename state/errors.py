"""The roots of all errors, split by the only question a caller asks: would trying again help.

TransientError              the same call may succeed later
TerminalError               the same call will fail again
StateError                  what `state` refuses or fails to do; each is one of the two as well
└── UserIdMissingError

`mana_actors` and `supervisor` build on the first two, so one word means one thing everywhere.
"""

from __future__ import annotations


class TransientError(Exception):
    """It may pass: the same call may succeed later."""


class TerminalError(Exception):
    """It will not pass by itself: the same call will fail again."""


class StateError(Exception):
    """Anything that `state` refuses or fails to do."""


class UserIdMissingError(StateError, TerminalError):
    """A row or query was about to be made without an owner."""

    def __init__(self, what: str) -> None:
        super().__init__(what)  # same args, so it survives pickling between actors
        self.what = what

    def __str__(self) -> str:
        return f"{self.what}: user id is empty"
