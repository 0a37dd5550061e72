"""The command line: one thin file a command.

Exit status: 0 done, 2 wrong input, 3 something was left unscored, 130 interrupted. No traceback is shown
unless ``--debug`` is among the arguments, which changes no exit status.
"""

from __future__ import annotations

import sys
import traceback

from macebench.errors import EXIT_USER_ERROR, MacebenchError, UserError

EXIT_INTERNAL = 1
EXIT_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status (the console script exits with it)."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    words = [word for word in given if word != "--debug"]
    try:
        status = _run(words)
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    except UserError as error:
        _trace(debug)
        _say(f"error: {error.message}", error.hint)
        return EXIT_USER_ERROR
    except (MacebenchError, OSError) as error:
        _trace(debug)
        _say(f"error: {error}", "Add --debug to see where.")
        return EXIT_USER_ERROR
    except Exception as error:  # noqa: BLE001 - the last stop of every error
        _trace(debug)
        _say(f"internal error: {type(error).__name__}: {error}", "Add --debug to see where; please report it.")
        return EXIT_INTERNAL
    if status == EXIT_INTERRUPTED:  # typer makes this status of a Ctrl-C, too
        _say("interrupted.", "Run the same command again: finished clips are kept.")
    return status


def _trace(debug: bool) -> None:
    """With ``--debug``, print the traceback of the error that is being handled; the exit status stays."""
    if debug:
        traceback.print_exc()


def _run(words: list[str]) -> int:
    from typer.exceptions import Exit, TyperException

    from macebench.cli.app import app

    try:
        result = app(args=words, standalone_mode=False, prog_name="macebench")
    except Exit as stop:
        return stop.exit_code
    except TyperException as error:
        if hasattr(error, "show"):
            error.show()
        return int(getattr(error, "exit_code", EXIT_USER_ERROR))
    return result if isinstance(result, int) else 0


def _say(message: str, hint: str) -> None:
    from macebench.cli.console import plain

    for text, place in ((message, "macebench: "), (hint, "  ")):
        if text:
            sys.stderr.write(place + "\n".join(map(plain, text.split("\n"))) + "\n")
