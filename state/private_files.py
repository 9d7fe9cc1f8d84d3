"""Folders that are ours alone on a machine that others use, and what of our files is open to them.

Others are all OS users but us and root, who may do anything anyway.
"""

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from state.errors import StateError, TerminalError

SOCKET_PATH_MAX_BYTES = 107  # sockaddr_un holds 108 with the closing NUL
LOOK_AT_MOST = 100_000
SHORT_BASE = "/tmp"  # noqa: S108 - what is made there is refused unless it is ours


_PLAIN = re.compile(r"[A-Za-z0-9._/-]+")
"""What every program takes in a path: Postgres splits at commas, Ray reads ASCII."""


class FolderNotOurs(StateError, TerminalError):
    """A folder in which only we may write cannot be had; the text names it and the remedy."""

    def __init__(self, folder: str, problem: str, remedy: str) -> None:
        super().__init__(folder, problem, remedy)
        self.folder, self.problem, self.remedy = folder, problem, remedy

    def __str__(self) -> str:
        return f"{self.folder} {self.problem}: {self.remedy}"


def own_root(root: Path) -> None:
    """Make a data directory with what lacks above it, or see that nobody else may write into it.

    Ours alone; where we are root others may pass through, since Postgres then has an account of
    its own. One that is empty is taken over whole. Raises FolderNotOurs.
    """
    mode = 0o711 if os.geteuid() == 0 else 0o700
    remedy = "choose another data directory with --data-dir"
    if not str(root).isprintable():  # Postgres and Ray read paths line by line, and as UTF-8
        problem = "has a line break or what is no text in its name"
        raise FolderNotOurs(ascii(str(root)), problem, remedy)
    try:
        for folder in (*reversed(root.parents), root):
            if not folder.exists():
                folder.mkdir(mode=0o700)
                folder.chmod(mode)
        found, is_empty = root.stat(), not any(root.iterdir())
        owners = {root.lstat().st_uid, found.st_uid}  # who owns a link has it lead elsewhere
    except OSError as exc:
        raise FolderNotOurs(str(root), f"cannot be used ({exc.strerror})", remedy) from exc
    if not owners <= {0, os.geteuid()}:
        raise FolderNotOurs(str(root), "belongs to another user", remedy)
    # Root may have put a volume there for a group of ours, as Kubernetes does.
    is_for_group = found.st_uid == 0 and os.geteuid() != 0 and found.st_gid in os.getgroups()
    if found.st_mode & (stat.S_IWOTH if is_for_group else stat.S_IWOTH | stat.S_IWGRP):
        raise FolderNotOurs(str(root), "can be written by others", f"chmod go-w, or {remedy}")
    if is_empty and found.st_uid == os.geteuid():
        root.chmod(mode)


def private_folder(folder: Path) -> None:
    """Make a folder of mode 0700, or see that it is one and ours; raises FolderNotOurs."""
    remedy = "it is not used; look at what is in there, and remove it"
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise FolderNotOurs(str(folder), "is no folder", remedy) from None
        if found.st_uid != os.geteuid():
            raise FolderNotOurs(str(folder), "belongs to another user", remedy) from None
        if found.st_mode & 0o077:
            raise FolderNotOurs(str(folder), "is open to others", remedy) from None
    except OSError as exc:
        remedy = "choose another data directory with --data-dir"
        raise FolderNotOurs(str(folder), f"cannot be made ({exc.strerror})", remedy) from exc


def socket_folder(root: Path, name: str, longest_below: int) -> Path:
    """Where sockets of a data directory are: `root/name`, or a short and plain folder elsewhere.

    Elsewhere where the path is too long for a socket, or holds what some program cannot take.
    `longest_below`: bytes of the longest path below it, with its slash.
    """
    folder = root / name
    fits = len(os.fsencode(folder)) + longest_below <= SOCKET_PATH_MAX_BYTES
    if fits and _PLAIN.fullmatch(str(folder)):
        return folder
    return short_folder(root, name)


def short_folder(root: Path, name: str) -> Path:
    """A folder with a short path for one data directory; others may have made it before us."""
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:12]
    return Path(SHORT_BASE, f"mana-{digest}-{name.partition('/')[0]}")


def open_to_others(
    root: Path, *, unseen: Sequence[Path] = (), public: Sequence[Path] = ()
) -> Iterator[str]:
    """What of a folder of ours others reach: each a line that begins with its path.

    Whose it is, its owner says; the account of an embedded Postgres may have its part of it. Of
    `unseen` nothing is told: other rules hold there. What is `public` everybody may read.
    """
    trusted = {0, root.stat().st_uid}
    with contextlib.suppress(OSError):  # there is none
        trusted.add((root / "postgres" / "data").stat().st_uid)
    for above in root.resolve().parents:
        found = above.stat()
        is_written = found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX
        if found.st_uid not in trusted or is_written:
            yield f"{above} lets others put another folder in the place of what is in it"
    if fault := _fault(root.stat(), trusted):
        yield f"{root} {fault}"
    looked_at = 0
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if Path(folder, name) not in unseen]
        looked_at += len(folders) + len(files)
        for path in (Path(folder, name) for name in (*folders, *files)):
            is_public = any(path.is_relative_to(one) for one in public)
            with contextlib.suppress(FileNotFoundError):  # gone since it was listed
                if fault := _fault(path.lstat(), trusted, is_public=is_public):
                    yield f"{path} {fault}"
        if looked_at > LOOK_AT_MOST:
            yield f"{root} holds over {LOOK_AT_MOST} files: the others were not looked at"
            return


def _fault(found: os.stat_result, trusted: set[int], *, is_public: bool = False) -> str:
    """What is wrong with one file or folder ("" nothing)."""
    if found.st_uid not in trusted:
        return f"belongs to another user ({found.st_uid})"
    if stat.S_ISLNK(found.st_mode):
        return ""
    if found.st_mode & 0o022:
        return "can be written by others: chmod go-w"
    # Root has a group read what is for it: the settings of Postgres, a mounted secret.
    is_for_group = found.st_uid == 0 and not found.st_mode & 0o007
    if found.st_mode & 0o044 and not is_public and not is_for_group:
        return "can be read by others: chmod go-r"
    return ""
