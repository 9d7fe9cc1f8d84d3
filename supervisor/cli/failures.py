"""How a command ends when it cannot do what was asked."""

FAILED = 1  # something was found wrong, or did not work
USAGE = 2  # the command line or a setting is wrong
UNREACHABLE = 3  # the gateway or the database cannot be reached
INTERRUPTED = 130


class Failure(Exception):
    """One line for a person, and the exit code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message, code)
        self.message, self.code = message, code
