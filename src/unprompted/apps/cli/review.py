"""``unprompted review`` and ``unprompted suggest``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from unprompted.apps.cli import options
from unprompted.apps.cli.render import Screen
from unprompted.errors import UsageError

Results = Annotated[Path, Argument(help="What `unprompted segment` wrote.", show_default=False)]


def review(
    results: Results,
    images: Annotated[
        Path | None,
        Option(
            "--input",
            "-i",
            help="The images that were segmented. Default: as remembered.",
            show_default=False,
        ),
    ] = None,
    task: Annotated[
        Path | None,
        Option("--task", "-t", help="The fitted task, for corrections to teach.", show_default=False),
    ] = None,
    host: Annotated[
        str, Option("--host", help="Address to serve at; all but loopback need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 8765,
    token: Annotated[
        str | None,
        Option(
            "--token",
            envvar="UNPROMPTED_TOKEN",
            help="What readers must bring, of 16 characters or more; the variable keeps it out of `ps`.",
            show_default=False,
            show_envvar=True,
        ),
    ] = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Look at segmented cases in the browser, correct slices, and let them teach."""
    try:
        from unprompted.apps.review.serve import serve
    except ImportError as error:
        raise UsageError(f"the review page needs {error.name}; pip install 'unprompted[review]'") from error

    with Screen(quiet, verbose, debug) as screen:
        serve(results, images, task, host, port, token, device, screen)


def suggest(
    results: Results,
    most: Annotated[int, Option("--most", "-n", min=1, help="How many cases to name.")] = 5,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Name the cases and slices most worth correcting, the worst first."""
    from unprompted.apps.review.suggest import suggest as suggested

    found = suggested(results, most)
    with Screen(quiet, debug=debug) as screen:
        if as_json:
            screen.json([asdict(one) | {"slice": one.slice + 1} for one in found])
            return
        rows = [
            (
                s.case,
                str(s.slice + 1),
                "-" if s.predicted_dice is None else f"{s.predicted_dice:.2f}",
                f"{s.wrong_pixels:.0f}",
            )
            for s in found
        ]
        screen.table(("case", "slice", "predicted Dice", "pixels expected wrong"), rows)
        if not found:
            screen.say("done", "every case is accepted or rejected")
