"""Which OS account runs Postgres: ourselves, or an unprivileged one when we are root."""

import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from state.store.embedded.errors import FolderUnreachableError
from state.store.embedded.waits import Progress

ACCOUNT = "mana"
FIRST_HUMAN_UID = 1000
# None of our own environment, which may hold secrets. LC_ALL=C gives messages we can parse.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


class Account(msgspec.Struct, frozen=True):
    """An OS account by name and ids."""

    name: str
    uid: int
    gid: int
    is_known: bool = True  # False: the system has no entry for the id

    @property
    def is_us(self) -> bool:
        return self.uid == os.geteuid()


def account_for(data_dir: Path, progress: Progress) -> Account:
    """The account that owns the data; for new data, the one that is to own it.

    That is ourselves, unless we are root: then the system account `mana`, made if the system can
    make it, else `nobody`.
    """
    if os.geteuid() != 0:
        return _named_by_id(os.geteuid())
    owner = data_dir.stat().st_uid if data_dir.exists() else 0
    if owner != 0:
        return _named_by_id(owner)
    account = _system_account()
    if account is not None:
        return account
    no_login = ("--shell", "/usr/sbin/nologin")
    commands = (
        ["useradd", "--system", "--user-group", "--home-dir", "/nonexistent", *no_login, ACCOUNT],
        ["adduser", "-S", "-D", "-H", "-s", "/sbin/nologin", ACCOUNT],  # busybox
    )
    for command in commands:
        program = shutil.which(command[0], path="/usr/sbin:/sbin:/usr/bin:/bin")
        if program is None:
            continue
        subprocess.run([program, *command[1:]], capture_output=True, check=False, env=ENVIRONMENT)
        account = _system_account()
        if account is not None:
            progress(f"made the system account {ACCOUNT}, under which Postgres runs")
            return account
    progress(f"no system account {ACCOUNT} can be made here: Postgres runs under nobody")
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def run_as(
    account: Account, command: Sequence[str | Path], *, keep_open: Sequence[int] = ()
) -> str:
    """Run a program in a session of its own under the account, and return what it printed.

    Raises CalledProcessError with both outputs, and PermissionError where the account may not
    execute the program.
    """
    drop = not account.is_us
    done = subprocess.run(
        command,
        cwd="/",
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        start_new_session=True,
        umask=0o077,
        pass_fds=keep_open,
        user=account.uid if drop else None,
        group=account.gid if drop else None,
        extra_groups=[] if drop else None,
    )
    return done.stdout


def own_folder(folder: Path, account: Account, mode: int) -> None:
    """Make a folder that the account owns, with exactly this mode.

    An existing one must be its own already: a link, or a folder of somebody else, in that place is
    an attack or a mistake.
    """
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError as exc:
        found = folder.lstat()
        if folder.is_symlink() or not folder.is_dir() or found.st_uid != account.uid:
            remedy = "it is there already and is not its own folder; remove it or choose another"
            raise FolderUnreachableError(folder, account.name, remedy) from exc
    except OSError as exc:
        remedy = f"{exc.strerror}; choose another data directory"
        raise FolderUnreachableError(folder, account.name, remedy) from exc
    else:
        if not account.is_us:
            os.chown(folder, account.uid, account.gid)
    if stat.S_IMODE(folder.stat().st_mode) != mode:
        folder.chmod(mode)


def require_entry(folder: Path, account: Account) -> None:
    """Raise FolderUnreachableError unless the account may pass through the folder."""
    try:
        run_as(account, ["/bin/sh", "-c", 'cd -- "$1"', "sh", folder])
    except subprocess.CalledProcessError as exc:
        remedy = f"choose a data directory that {account.name} may enter, e.g. /var/lib/mana"
        raise FolderUnreachableError(folder, account.name, remedy) from exc


def _named_by_id(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:  # containers run under ids that have no entry
        gid = os.getegid() if uid == os.geteuid() else uid
        return Account(str(uid), uid, gid, is_known=False)
    return Account(entry.pw_name, uid, entry.pw_gid)


def _system_account() -> Account | None:
    """The account `mana`, unless a person has that name."""
    try:
        entry = pwd.getpwnam(ACCOUNT)
    except KeyError:
        return None
    if not 0 < entry.pw_uid < FIRST_HUMAN_UID:
        return None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
