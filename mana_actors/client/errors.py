"""What the client library refuses or cannot do, split by whether trying again would help.

TransientError
├── ServerAway          no answer that could be used; what was written waits here
├── SyncInactive        the server serves this person no sync at present; what was written waits
└── StoreFull           no room for a transaction: none of it was kept, all before it was
TerminalError
├── NotSignedIn         the server does not know the token, or it may not do this
├── ServerRefused         the server understood a request that carries no change, and said no
├── StoreUnusable       the file of the local store cannot be used
└── WriteRefused        a change that cannot be written; names the field and never its value
"""

from state.errors import TerminalError, TransientError


class ServerAway(TransientError):
    """No answer that could be used; `reason` is a word of ours, `retry_after_s` the server's."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason, retry_after_s)
        self.reason, self.retry_after_s = reason, retry_after_s

    def __str__(self) -> str:
        return f"the server is away: {self.reason}"


class SyncInactive(TransientError):
    """The server serves this person no sync at present."""

    def __str__(self) -> str:
        return "sync is not active for this account: what was written stays here"


class StoreFull(TransientError):
    """The disk has no room, or does not take it: this transaction was not kept, all before was."""

    def __str__(self) -> str:
        return (
            "the disk is full, or cannot be written: this was not kept,"
            " what was written before is; make room"
        )


class NotSignedIn(TerminalError):
    """The server lets nobody in by this token, or not for this."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status

    def __str__(self) -> str:
        if self.status == 403:
            return "the token does not have the scope that this takes"
        return "the token is not good, or not any more: sign in again"


class ServerRefused(TerminalError):
    """The server said no; `text` is its sentence, which names fields and never values."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status, self.text = status, text

    def __str__(self) -> str:
        return f"the server refused ({self.status}): {self.text}"


class StoreUnusable(TerminalError):
    """The file of a local store cannot be used; `remedy` says what to do."""

    def __init__(self, path: str, problem: str, remedy: str) -> None:
        super().__init__(path, problem, remedy)
        self.path, self.problem, self.remedy = path, problem, remedy

    def __str__(self) -> str:
        return f"{self.path} {self.problem}: {self.remedy}"


class WriteRefused(TerminalError):
    """A change that cannot be written; names the field and never its value."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field, self.problem = field, problem

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"
