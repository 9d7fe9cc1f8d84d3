"""New workers of Ray as forks of a process that has imported everything.

Read in this order: `on_path/sitecustomize.py` (the first line of each worker), `worker` (hands
over, or starts as Ray would), `server` (answers by forking), `fork` (goes on as the worker).
"""

from __future__ import annotations

import os

TRIED = "2.60.0"
"""The one Ray whose workers were forked before."""
FOLDER_VARIABLE = "MANA_FORK_DIR"


def variables(folder: str | os.PathLike[str], path: str | None) -> dict[str, str]:
    """What a Ray needs in its environment when it starts, for its workers to be forks.

    `folder`: where the server answers, made if missing; `path`: the PYTHONPATH there is.
    """
    ours = os.path.join(os.path.dirname(__file__), "on_path")
    return {
        FOLDER_VARIABLE: os.fspath(folder),
        "PYTHONPATH": os.pathsep.join([ours, path] if path else [ours]),
    }
