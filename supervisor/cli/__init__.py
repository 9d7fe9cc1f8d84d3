"""The command `mana`. Modules load when a command needs them, so that answers come at once."""

import sys
from collections.abc import Sequence

from mana_actors.crash import keep_to_ourselves
from supervisor import __version__
from supervisor.cli.failures import FAILED, INTERRUPTED, UNREACHABLE, USAGE, Failure


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(args: Sequence[str]) -> int:
    """The exit code of a command line; errors are one line on stderr."""
    keep_to_ourselves()
    if list(args) == ["version"]:  # needs no parser, which takes longest to load
        sys.stdout.write(f"{__version__}\n")
        return 0
    from supervisor.cli.commands.app import app  # noqa: PLC0415 - slow to load

    try:
        code = app(list(args) or ["--help"], prog_name="mana", standalone_mode=False)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
        return 0
    except Exception as exc:
        code, line = _explained(exc)
        if line is None:
            raise
        print(f"mana: {line}", file=sys.stderr)  # noqa: T201 - this is the terminal
    return code if isinstance(code, int) else 0


def _explained(exc: Exception) -> tuple[int, str | None]:
    """The exit code and the line for an error that was foreseen; no line for one that was not."""
    import typer  # noqa: PLC0415

    from state.errors import StateError, TransientError  # noqa: PLC0415
    from supervisor.node.settings import SettingsError  # noqa: PLC0415

    match exc:
        case Failure():
            return exc.code, exc.message
        case SettingsError():
            return USAGE, str(exc)
        case typer.Abort():
            return INTERRUPTED, "interrupted"
        case typer.TyperException():
            return USAGE, exc.format_message().replace("\n", " ") or "try mana --help"
        case StateError():
            return UNREACHABLE if isinstance(exc, TransientError) else FAILED, str(exc)
        case _:
            return FAILED, None
