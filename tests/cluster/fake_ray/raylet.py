"""Starts workers as Ray's raylet does, and reaps them: one JSON line in per worker, its pid out."""

import contextlib
import json
import os
import signal
import subprocess
import sys


def reap(_number: int, _frame: object) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


signal.signal(signal.SIGCHLD, reap)
for line in sys.stdin:
    asked = json.loads(line)
    with open(asked["output"], "wb") as output:
        worker = subprocess.Popen(
            [sys.executable, *asked["command"]],
            env=os.environ | {"RAY_RAYLET_PID": str(os.getpid())} | asked["env"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,
        )
    print(worker.pid, flush=True)
