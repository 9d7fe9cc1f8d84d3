"""What an agent meets when it asks for a key.

TransientError
└── KeyHolderUnreachable     nobody answers, or the answer makes no sense; or it is busy
TerminalError
└── KeyWithheld              no usable grant: the run goes on without these records
"""

from __future__ import annotations

from mana_actors.errors import TerminalError, TransientError


class KeyHolderUnreachable(TransientError):
    """No answer that can be used; `why` is a short code."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return f"the key holder did not answer: {self.why}"


class KeyWithheld(TerminalError):
    """The key holder refused; `reason` is one of `messages.RefusedBecause`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"no key: {self.reason}"
