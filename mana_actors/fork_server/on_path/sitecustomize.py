"""Python runs this before anything else in each process of Ray's; only its workers are meant.

It hides another module of its name, if there is one: that runs after it.
"""

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

if os.path.basename("".join(sys.orig_argv[1:2])) == "default_worker.py":
    from mana_actors.fork_server.worker import hand_over

    hand_over()

_here = os.path.dirname(__file__)
_other = PathFinder.find_spec("sitecustomize", [p for p in sys.path if p != _here])
if _other is not None and _other.loader is not None:
    _other.loader.exec_module(module_from_spec(_other))
