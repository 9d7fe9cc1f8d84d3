"""`python -m supervisor.custody.issuer`: `/api/v1/me` and its copies, outside Ray.

For deployments that keep vaults: whoever can run code in the Ray cluster could read what a gateway
inside it holds, and the KEK opens every vault. Here it belongs to one process and its own OS user,
which needs the passwords of `mana_issuer` and `mana_gateway` and nothing else of the node.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys

import msgspec

from mana_actors.crash import keep_to_ourselves
from mana_actors.http.door import Doorway
from mana_actors.http.server import serve
from mana_actors.http.sockets import CannotListen, affordable
from mana_actors.logs import configure_logging
from state.errors import StateError
from supervisor import __version__
from supervisor.gateway.people.owners import opened_copier, opened_owners
from supervisor.gateway.people.routes import app_of
from supervisor.node.settings import Settings, SettingsError, read_settings

log = logging.getLogger("mana.issuer")


def main() -> int:
    """Serve until a signal; 0: in order, 2: a wrong setting, 1: anything else."""
    keep_to_ourselves()
    configure_logging()
    try:
        settings = read_settings(os.environ, serves=False)
        asyncio.run(_run(settings))
    except SettingsError as exc:
        return _fail(exc, 2)
    except (StateError, CannotListen) as exc:
        return _fail(exc, 1)
    return 0


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        if settings.database_url is None:
            raise SettingsError(
                "SYNC_DATABASE_URL", "is not set: an issuer has no database of its own"
            )
        if settings.auth_url is None:
            raise SettingsError("MANA_AUTH_URL", "is not set: an issuer must know who asks")
        owners = opened_owners(settings, settings.database_url, has_pages=False)
        stack.push_async_callback(owners.close)
        if (copier := opened_copier(settings, settings.database_url, owners)) is not None:
            stack.push_async_callback(copier.close)
            stack.callback(asyncio.create_task(copier.run()).cancel)
        app = app_of(owners, settings.cors_origins)
        limits = msgspec.structs.replace(settings.limits, most=affordable(settings.limits.most))
        serving = await serve(
            app,
            settings.host,
            settings.port,
            Doorway(limits),
            names=settings.names,
            proxies=settings.proxies,
        )
        stack.push_async_callback(serving.stop)
        log.info("issuer_listening url=%s version=%s", serving.url, __version__)
        sys.stdout.write(f"ready at {serving.url}\n")
        sys.stdout.flush()
        await stop.wait()


def _fail(exc: Exception, code: int) -> int:
    sys.stderr.write(f"error: {exc}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
