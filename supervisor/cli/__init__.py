"""The command `mana`. Modules load when a command needs them, so that answers come at once."""

import os
import sys
from collections.abc import Sequence

from mana_actors.crash import keep_to_ourselves
from supervisor import __version__
from supervisor.cli.failures import FAILED, INTERRUPTED, UNREACHABLE, USAGE, Failure

HELP = "Usage: "
"""How typer begins the help that it raises where a group is named without a command."""


def main() -> None:
    """Run the command line and exit with its code."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was started with this one closed
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 - as long as we live
        else:
            stream.reconfigure(errors="replace")  # ids hold what not every terminal can show
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except (BrokenPipeError, ValueError):
        _reader_is_gone()
    except OSError as exc:
        sys.stderr.write(f"mana: cannot write the output: {exc.strerror}\n")
        _reader_is_gone()
        code = code or FAILED
    sys.exit(code)


def run(args: Sequence[str]) -> int:
    """The exit code of a command line; errors are one line on stderr."""
    keep_to_ourselves()
    try:
        if list(args) == ["version"]:  # needs no parser, which takes longest to load
            sys.stdout.write(f"{__version__}\n")
            return 0
        from supervisor.cli.commands.app import app  # noqa: PLC0415 - slow to load

        code = app(list(args) or ["--help"], prog_name="mana", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except (BrokenPipeError, SystemExit):  # the reader has seen enough; typer says it so
        _reader_is_gone()
        return 0
    except Exception as exc:
        code, line = _explained(exc)
        if line is None:
            raise
        is_help = line.startswith(HELP)
        print(line if is_help else f"mana: {line}", file=sys.stderr)  # noqa: T201 - the terminal
    return code if isinstance(code, int) else 0


def _reader_is_gone() -> None:
    """Let nothing more be written, also not at the end of the interpreter."""
    sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - as long as we live


def _explained(exc: Exception) -> tuple[int, str | None]:
    """The exit code and the line for an error that was foreseen; no line for one that was not."""
    import typer  # noqa: PLC0415

    from state.errors import StateError, TransientError  # noqa: PLC0415
    from state.store.connect import Refused, Unavailable  # noqa: PLC0415
    from state.troubles import trouble_of  # noqa: PLC0415
    from supervisor.node.settings import SettingsError  # noqa: PLC0415

    match exc:
        case Failure():
            return exc.code, exc.message
        case SettingsError():
            return USAGE, str(exc)
        case typer.Abort():
            return INTERRUPTED, "interrupted"
        case typer.TyperException():
            said = exc.format_message() or "try mana --help"
            return USAGE, said if said.startswith(HELP) else said.replace("\n", " ")
        case StateError():
            line = str(exc)
            if isinstance(exc, Unavailable | Refused):
                trouble = trouble_of(exc)
                line = f"database: {trouble.what}: {trouble.remedy}"
            return UNREACHABLE if isinstance(exc, TransientError) else FAILED, line
        case UnicodeEncodeError():
            return USAGE, f"{exc.object[:60]!r} is not UTF-8"
        case OSError():
            where = f"{exc.filename}: " if exc.filename is not None else ""
            return FAILED, f"{where}{exc.strerror or type(exc).__name__}"
        case _:
            return FAILED, None
