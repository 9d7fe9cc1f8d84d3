"""Acting as a person over `/api/v1/me`: by a token file, a stored sign-in, or the service key.

Whoever holds a node's service key may act for the people of that node, who see it in their trail.
Tokens come from files, a prompt or stdin, never from a command line, which others can see.
"""

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec

from mana_actors.client.server.credentials import REFRESH, GivenTokens, StoredSignIn
from mana_actors.http.paths import path_of
from state.secret_files import replace_secret
from supervisor.cli.failures import FAILED, UNREACHABLE, USAGE, Failure
from supervisor.cli.gateway_client import Gateway, address, gateway
from supervisor.node.settings import SettingsError

ME = "/api/v1/me"


def person_client(
    user: str | None = None,
    *,
    url: str | None = None,
    data_dir: str | None = None,
    token_file: str | None = None,
) -> Gateway:
    """A client for `/api/v1/me/…` that acts as a person; raises Failure.

    The token of `token_file` or MANA_TOKEN_FILE comes first, then a sign-in kept by `mana sign-in`,
    then the service key of this machine, with which `user` says whose place to act in. Without one
    it is the only person there is.
    """
    named = token_file or os.environ.get("MANA_TOKEN_FILE")
    at = address(url, data_dir)
    if named:
        return _checked(Gateway(at, None, token_from(Path(named))), user)
    stored = stored_sign_in(at)
    if stored is not None and user in (None, stored.user):
        return Gateway(at, None, stored.access_token)
    try:
        operator = gateway(url, data_dir)
    except SettingsError as exc:
        raise Failure("sign in first: mana sign-in LINK, or give --token-file", FAILED) from exc
    whose = user or _only_person(operator)
    path = path_of("/internal/people", whose) + "/token"
    return Gateway(at, None, operator.call("POST", path)["accessToken"])


def stored_sign_in(at: str) -> StoredSignIn | None:
    """The sign-in kept for a gateway, renewed where it must be; None without one."""
    path = sign_in_file(at)
    if not path.exists():
        return None
    with _held(path):
        stored = _read(path)
        if stored is None or stored.renew_at is None or time.time() < stored.renew_at:
            return stored
        body = {"refreshToken": stored.refresh_token}
        try:
            told = Gateway(at, None).call("POST", REFRESH, content=body)
        except Failure as exc:
            if exc.code == UNREACHABLE and "refused" not in exc.message:
                raise
            problem = f"{exc.message}: sign in again with mana sign-in, or mana sign-out"
            raise Failure(problem, exc.code) from exc
        return keep_sign_in(at, told)


def keep_sign_in(at: str, told: dict[str, Any]) -> StoredSignIn:
    """Keep what a gateway answered to a link or a refresh token."""
    stored = msgspec.convert(told, GivenTokens).stored(at, time.time())
    write_sign_in(stored)
    return stored


def write_sign_in(stored: StoredSignIn) -> None:
    """Put it into its file, mode 0600."""
    replace_secret(sign_in_file(stored.url), msgspec.json.encode(stored).decode())


def sign_in_file(at: str) -> Path:
    """Where the sign-in at a gateway is kept: in the person's own folder of settings."""
    base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    name = hashlib.sha256(at.rstrip("/").encode()).hexdigest()[:16]
    return base / "mana" / f"sign-in-{name}.json"


def token_from(path: Path) -> str:
    """The token that a file holds; raises Failure."""
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise Failure(f"cannot read the token in {path} ({type(exc).__name__})", USAGE) from exc
    return token_in(token, str(path))


def token_in(text: str, where: str) -> str:
    """A text if it can be a token; raises Failure, which shows nothing of it."""
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise Failure(f"{where}: holds no token", USAGE)
    return text


def _checked(client: Gateway, user: str | None) -> Gateway:
    """The client, if its token is this person's where one is named; raises Failure."""
    if user is not None:
        mine = client.get(ME)["user"]
        if mine != user:
            raise Failure(f"the token is {mine}'s, and not {user}'s", USAGE)
    return client


def _only_person(operator: Gateway) -> str:
    people = operator.get("/internal/people", {"limit": "2"})["items"]
    if not people:
        raise Failure("nobody may sign in yet: mana people add NAME")
    if len(people) > 1:
        raise Failure("there are several people: say as whom, --as NAME", USAGE)
    return people[0]["user"]


def _read(path: Path) -> StoredSignIn | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=StoredSignIn)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as exc:
        problem = f"cannot read the sign-in in {path}: mana sign-out, then mana sign-in"
        raise Failure(problem) from exc


@contextlib.contextmanager
def _held(path: Path) -> Generator[None]:
    """Of several commands at once one renews; the others find what it got."""
    with path.with_suffix(".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
