"""`python -m mana_actors.fork_server COMMAND...`, started by the first worker of a node."""

import os
import sys
from pathlib import Path

from mana_actors.fork_server import FOLDER_VARIABLE
from mana_actors.fork_server.fork import go_on_as
from mana_actors.fork_server.request import StartRequest
from mana_actors.fork_server.server import ForkServer, import_all

if __name__ == "__main__":
    first = StartRequest(sys.argv[1:], dict(os.environ), os.getcwd())
    sys.path.insert(0, str(Path(first.command[1]).parent))  # as Python does for a script
    try:
        import_all()
        server = ForkServer(os.environ[FOLDER_VARIABLE])
    except (ImportError, OSError) as exc:
        sys.stderr.write(f"no fork server, Ray starts each worker: {type(exc).__name__}: {exc}\n")
        sys.stderr.flush()
        os._exit(1)
    go_on_as(server.next_fork(), first)
