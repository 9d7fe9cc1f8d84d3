"""The node's first process: it starts the node's work, watches it, and leaves nothing behind.

Ray cannot be started twice in one process, and ends whoever started it when its GCS is gone. So
the work is a child; whatever of it dies, all of it is ended, and a new child goes on from Postgres.
"""

import sys

# -P: no folder of the caller's shadows our packages, whose names are common words.
COMMAND = (sys.executable, "-P", "-m", "supervisor.node.keeper")
WORK = (sys.executable, "-P", "-m", "supervisor.node.main")
JOIN_COMMAND = (*COMMAND, "--join")
JOIN_WORK = (sys.executable, "-P", "-m", "supervisor.node.join")
