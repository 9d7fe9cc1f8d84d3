"""The key holder's process, as the node starts it and starts it again.

It inherits no environment but what Python needs, and ends when the node does, however that ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from supervisor.custody.key_folder import key_folder
from supervisor.node.keeper.processes import MARK
from supervisor.node.settings import Settings

log = logging.getLogger("mana.node")

LOGIN = "mana_keys"
RETRY_MIN_S, RETRY_MAX_S = 1.0, 60.0
STOP_S = 5.0
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", MARK)


class KeyHolderProcess:
    """Started once, and looked after by `tend`; `stop` ends it."""

    def __init__(self, settings: Settings, dsn: str) -> None:
        self._settings = settings
        self._dsn = dsn
        self._process: asyncio.subprocess.Process | None = None
        self._started_at = 0.0
        self._wait_s = RETRY_MIN_S

    async def tend(self) -> None:
        """Start it if it does not run, less often while it keeps ending; never raises.

        Where agents ask another machine's, there is none here.
        """
        if not self._settings.runs_key_holder:
            return
        if self._process is not None and self._process.returncode is None:
            return
        ran_s = time.monotonic() - self._started_at
        if self._process is not None:
            if ran_s < self._wait_s:
                return
            self._wait_s = (
                RETRY_MIN_S if ran_s > RETRY_MAX_S else min(2 * self._wait_s, RETRY_MAX_S)
            )
            log.error("key_holder_ended code=%s", self._process.returncode)
        self._started_at = time.monotonic()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command(self._settings, self._dsn),
                stdin=asyncio.subprocess.PIPE,  # closed by the kernel when we are gone
                env=environment(os.environ),
            )
        except OSError as exc:
            log.error("key_holder_not_started error=%s", type(exc).__name__)  # noqa: TRY400 - tried again

    async def stop(self) -> None:
        """End it, by force if it does not end by itself."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()


def command(settings: Settings, dsn: str) -> list[str]:
    """The key holder's command line; it names files and no secret."""
    found = key_folder(settings.keys_path)
    password = Path(settings.secrets_dir, LOGIN)
    parts = [sys.executable, "-P", "-m", "mana_actors.keys", "--until-eof"]
    parts += ["--socket", str(settings.key_socket), "--dsn", dsn, "--password-file", str(password)]
    parts += [part for path in found.runner_private for part in ("--private-key", str(path))]
    parts += [part for path in found.issuer_public for part in ("--issuer-key", str(path))]
    if settings.keys_listen is not None:
        files = settings.key_server_files
        parts += ["--listen", settings.keys_listen]
        parts += ["--tls", files.cert_file, files.key_file, files.ca_file]
    return [*parts, "--accept-v1"] if settings.accept_v1_grants else parts


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """What it needs of ours."""
    return {name: env[name] for name in _KEPT_VARIABLES if name in env}
