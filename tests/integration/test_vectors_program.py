"""The golden cases as a program, with every suite: those on a real Postgres too."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "vectors"


def test_the_runner_is_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "tests.vectors", "--all", str(FOLDER)],
        cwd=FOLDER.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "override instants" in done.stdout
