"""``unprompted export``: results for another program."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from unprompted.apps.cli import options
from unprompted.apps.cli.render import Screen


def export(
    results: Annotated[Path, Argument(help="Output folder of `unprompted segment`.")],
    output: Annotated[Path, Option("--output", "-o", help="A new folder.", show_default=False)],
    to: Annotated[str, Option("--to", help="nnunet, bids, slicer or itksnap.", show_default=False)],
    input: Annotated[
        Path | None, Option("--input", "-i", help="The images that were segmented.", show_default=False)
    ] = None,
    support: Annotated[
        Path | None, Option("--support", "-s", help="Labelled cases, for nnunet.", show_default=False)
    ] = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Hand results over: nnU-Net raw dataset, BIDS derivatives, 3D Slicer or ITK-SNAP."""
    from unprompted.apps.batch.export import export as write

    with Screen(quiet, verbose, debug) as screen:
        write(results, to, output, input, support, screen)
