"""The child process of a deployment's tools: standard library only, run by path, never imported.

    python -I child.py describe FILE MEMORY_MB SECONDS        → {"tools": […]} or {"error": "…"}
    python -I child.py call FILE MEMORY_MB SECONDS            ← {"name", "arguments"} on stdin
                                                              → {"data": …}    or {"error": "…"}

The file says `from mana_tools import tool` and decorates functions with it. What they print is
thrown away: the answer has a pipe of its own.
"""

import asyncio
import contextlib
import ctypes
import inspect
import json
import os
import resource
import signal
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MEGABYTE = 1024 * 1024
_MOST_WRITTEN = 16 * _MEGABYTE
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG

_tools: dict[str, tuple[dict[str, Any], Callable[..., Any]]] = {}


def tool(
    *,
    module: str,
    description: str,
    policy: str = "auto",
    parameters: list[dict[str, Any]] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the decorated function as a tool; it gets the arguments by name, and returns JSON."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__
        if name in _tools:
            text = f"{name} is there twice"
            raise ValueError(text)
        declared = {
            "name": name,
            "module": module,
            "description": description,
            "defaultPolicy": policy,
            "parameters": parameters or [],
        }
        _tools[name] = declared, function
        return function

    return add


def main(mode: str, file: str, memory_mb: str, seconds: str) -> int:
    """Do what was asked, and answer on the pipe that was standard output."""
    _limit(int(memory_mb) * _MEGABYTE, max(1, int(seconds)))
    answer = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        _load(file)
        result = {"tools": [declared for declared, _ in _tools.values()]}
        if mode == "call":
            asked: dict[str, Any] = json.load(sys.stdin)
            data = _tools[asked["name"]][1](**asked["arguments"])
            result = {"data": asyncio.run(data) if inspect.iscoroutine(data) else data}
        text = json.dumps(result, allow_nan=False)
    except BaseException as exc:  # noqa: BLE001 - the file is somebody else's: say what it was
        said = type(exc).__name__
        if mode == "describe":  # only at the start, where no user data is about
            said = f"{said}: {str(exc)[:200]}"
        text = json.dumps({"error": said})
    with open(answer, "w", encoding="utf-8") as out:  # noqa: PTH123 - a descriptor, not a path
        out.write(text)
    return 0


def _load(file: str) -> None:
    ours = types.ModuleType("mana_tools")
    ours.tool = tool  # type: ignore[attr-defined]  # a module made here
    sys.modules["mana_tools"] = ours
    sys.modules["ray"] = None  # type: ignore[assignment]  # this makes `import ray` fail
    code = compile(Path(file).read_text("utf-8"), file, "exec")
    exec(code, {"__name__": "tools_file", "__file__": file})  # noqa: S102 - this is what it is for


def _limit(memory: int, seconds: int) -> None:
    """Bounds of its own, for when nobody is left to end it."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds + 1),
        (resource.RLIMIT_FSIZE, _MOST_WRITTEN),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    signal.setitimer(signal.ITIMER_REAL, seconds + 2)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
