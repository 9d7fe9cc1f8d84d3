"""Stands for Ray's script: says what process it runs in, and stays."""

import gc
import json
import os
import random
import signal
import ssl
import sys
import uuid
from pathlib import Path

fork = sys.modules.get("mana_actors.fork_server.fork")
name = next(a for a in sys.argv if a.startswith("--worker-id=")).partition("=")[2]
facts = {
    "is_fork": fork is not None and fork.is_fork(),
    "name": __name__,
    "pid": os.getpid(),
    "ppid": os.getppid(),
    "group": os.getpgrp(),
    "session": os.getsid(0),
    "folder": str(Path.cwd()),
    "argv": sys.argv,
    "command": sys.orig_argv,
    "path": [p for p in sys.path if not p.endswith("thirdparty_files")],
    "environment": dict(os.environ),
    "files": [os.readlink(f"/proc/self/fd/{n}") for n in (0, 1, 2)],
    "further_files": [
        where
        for n in sorted(map(int, os.listdir("/proc/self/fd")))
        if n > 2 and os.path.exists(f"/proc/self/fd/{n}")
        for where in [os.readlink(f"/proc/self/fd/{n}")]
        if not where.startswith("/proc/")
    ],
    "threads": len(os.listdir("/proc/self/task")),
    "children_are_reaped_by_us": signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL,
    "collects": gc.isenabled(),
    "oom": Path("/proc/self/oom_score_adj").read_text(),
    "drawn": [random.random(), str(uuid.uuid4()), ssl.RAND_bytes(8).hex(), os.urandom(8).hex()],
}
draft = Path(os.environ["FAKE_RAY_OUT"], f".{name}.{os.getpid()}")
draft.write_text(json.dumps(facts))
draft.rename(draft.with_name(f"{name}.{os.getpid()}"))
signal.pause()
