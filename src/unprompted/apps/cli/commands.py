"""The program ``unprompted``: which commands there are, and how a call ends."""

import re
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from unprompted import __version__
from unprompted.apps.cli import render
from unprompted.apps.cli.benchmark import benchmark
from unprompted.apps.cli.demo import demo
from unprompted.apps.cli.estimate import estimate
from unprompted.apps.cli.evaluate import evaluate
from unprompted.apps.cli.export import export
from unprompted.apps.cli.info import info
from unprompted.apps.cli.options import EXIT_CODES
from unprompted.apps.cli.pretrain import pretrain
from unprompted.apps.cli.review import review, suggest
from unprompted.apps.cli.segment import fit, segment
from unprompted.apps.cli.weights import weights
from unprompted.errors import UnpromptedError

_SEVERAL = ("--labels", "--set")  # these take one value or more
_INTERRUPTED = 130

app = typer.Typer(
    epilog=EXIT_CODES,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (segment, fit, estimate, review, suggest, evaluate, benchmark, export, info, demo, pretrain):
    app.command(epilog=EXIT_CODES)(command)
app.add_typer(weights, name="weights")


def _print_version(wanted: bool) -> None:
    if wanted:
        render.version(__version__)
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Few-shot, prompt-free segmentation of medical images, volumes and videos."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the program and end it with its exit code."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    """The exit code of one call; what a user should know has been printed."""
    try:
        ended = app(args=one_value_each(argv), prog_name="unprompted", standalone_mode=False)
    except KeyboardInterrupt:
        ended = _INTERRUPTED
    except Exception as error:
        return _explained(error, debug="--debug" in argv)
    if ended == _INTERRUPTED:
        render.error("interrupted; what is written stays, and the same command goes on from there")
    return ended if isinstance(ended, int) else 0


def one_value_each(argv: Sequence[str]) -> list[str]:
    """The words of a call with ``--labels liver spleen`` written as ``--labels liver --labels spleen``."""
    words: list[str] = []
    several, first = "", False
    for word in argv:
        if word.startswith("-") and not re.fullmatch(r"-\d+", word):
            several, first = (word, True) if word in _SEVERAL else ("", False)
        elif several and not first:
            words.append(several)
        else:
            first = False
        words.append(word)
    return words


def _explained(error: Exception, debug: bool) -> int:
    """Print one line for an error; its exit code."""
    if debug:
        render.traceback_of_current_error()
    if isinstance(error, UnpromptedError):
        render.error(str(error))
        return error.exit_code
    if isinstance(error, TyperException):
        if error.format_message():
            render.error(error.format_message(), "`unprompted COMMAND --help` lists what a command takes")
        return error.exit_code
    hint = "" if debug else "this is not one of our own messages; --debug shows where it comes from"
    render.error(f"{type(error).__name__}: {error}", hint)
    return 1


if __name__ == "__main__":
    main()
