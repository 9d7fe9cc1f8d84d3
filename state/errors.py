"""Errors of `state`, split by the only question a caller asks: would trying again help.

StateError
├── TransientError      try again later
└── TerminalError       trying again gives the same answer
    └── UserIdMissingError
"""

from __future__ import annotations


class StateError(Exception):
    """Anything that `state` refuses or fails to do."""


class TransientError(StateError):
    """The same call may succeed later."""


class TerminalError(StateError):
    """The same call will fail again."""


class UserIdMissingError(TerminalError):
    """A row or query was about to be made without an owner."""

    def __init__(self, what: str) -> None:
        super().__init__(what)  # same args, so it survives pickling between actors
        self.what = what

    def __str__(self) -> str:
        return f"{self.what}: user id is empty"
