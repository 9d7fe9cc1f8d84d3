"""`python -m mana_actors.keys`: the key holder, until SIGTERM; 2 on a wrong argument or key."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from mana_actors.crash import keep_to_ourselves
from mana_actors.http.sockets import raise_file_limit
from mana_actors.keys.key_files import read_trust
from mana_actors.keys.releases import Releases
from mana_actors.keys.server import KeyServer
from mana_actors.keys.tls import ServerTls, TlsFiles
from mana_actors.keys.tls_listener import TlsListener
from mana_actors.logs import keep_texts_out
from state.errors import TerminalError
from state.grants.grant import Trust
from state.store.connect import Access, Database
from state.store.keys import KeyStore

log = logging.getLogger("mana.keys")

LOGIN = "mana_keys"
CONNECTIONS = 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal ends it."""
    keep_to_ourselves()
    parser = argparse.ArgumentParser(prog="mana-keys", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--dsn", required=True, help="without a password")
    parser.add_argument("--password-file", type=Path, required=True)
    parser.add_argument("--private-key", type=Path, action="append", default=[])
    parser.add_argument("--issuer-key", type=Path, action="append", default=[])
    parser.add_argument("--accept-v1", action="store_true", help="unsigned grants of the original")
    parser.add_argument("--listen", type=_host_and_port, metavar="HOST:PORT", help="with TLS")
    parser.add_argument("--tls", nargs=3, metavar=("CERT", "KEY", "CA"), help="files for --listen")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input does")
    given = parser.parse_args(arguments)
    if (given.listen is None) != (given.tls is None):
        parser.error("--listen and --tls go together")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.INFO)
    raise_file_limit()
    try:
        trust = read_trust(given.private_key, given.issuer_key, accept_v1=given.accept_v1)
        asyncio.run(_serve(given, trust))
    except TerminalError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 2
    return 0


async def _serve(given: argparse.Namespace, trust: Trust) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    keep_texts_out(loop)
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    if given.until_eof:
        loop.add_reader(sys.stdin, _stop_at_eof, stop)
    if not trust.private_keys:
        # No fault where nobody grants anything; where somebody does, /health says so.
        log.info("key_holder_has_no_key: no grant can be used until there is one (mana keys new)")
    access = Access(given.dsn, LOGIN, str(given.password_file), "mana-keys", 4000)
    store = KeyStore(Database(access, max_connections=CONNECTIONS))
    server = KeyServer(Releases(store, trust), given.socket, len(trust.private_keys))
    async with AsyncExitStack() as doors:
        await doors.enter_async_context(server.serving())
        if given.listen is not None:  # other machines may ask, too
            listener = TlsListener(server, ServerTls(TlsFiles(*given.tls)), *given.listen)
            await doors.enter_async_context(listener.serving())
            log.info("key_holder_listens host=%s port=%s", given.listen[0], listener.port)
        log.info("key_holder_started socket=%s keys=%s", given.socket, len(trust.private_keys))
        await stop.wait()
    await store.close()
    log.info("key_holder_stopped")


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def _stop_at_eof(stop: asyncio.Event) -> None:
    """Standard input ends when whoever started us is gone."""
    if not os.read(sys.stdin.fileno(), 1024):
        asyncio.get_running_loop().remove_reader(sys.stdin)
        stop.set()


if __name__ == "__main__":
    sys.exit(main())
