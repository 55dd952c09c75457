"""``unprompted weights``: which weights there are, fetching them, and checking them."""

from typing import Annotated

import typer

from unprompted.apps.cli import options
from unprompted.apps.cli.render import Screen
from unprompted.registry import DEFAULT_BACKBONE

weights = typer.Typer(
    help="List, fetch and verify weights of backbones.",
    epilog=options.EXIT_CODES,
    no_args_is_help=True,
)
_NAME = "A hub id such as facebook/sam2.1-hiera-tiny, or org/name@revision."


@weights.command("list", epilog=options.EXIT_CODES)
def list_(json: options.AsJson = False) -> None:
    """Known weights, and whether they are on this machine."""
    from unprompted.backbones import hub, shipped

    screen = Screen()
    here = shipped.folder()
    rows = [{"name": DEFAULT_BACKBONE, "licence": shipped.LICENCE, "folder": str(here) if here else None}]
    rows += [
        {"name": w.name, "licence": w.licence, "folder": str(w.folder) if w.folder else None}
        for w in hub.known()
    ]
    if json:
        screen.json(rows)
        return
    shown = [(row["name"], row["licence"], row["folder"] or "not on this machine") for row in rows]
    screen.table(("weights", "licence", "where"), [[str(word) for word in row] for row in shown])


@weights.command("get", epilog=options.EXIT_CODES)
def get(name: Annotated[str, typer.Argument(help=_NAME)]) -> None:
    """Fetch weights from the hub; an interrupted download goes on."""
    from unprompted.backbones import hub

    Screen().say("folder", str(hub.get(name)))


@weights.command("verify", epilog=options.EXIT_CODES)
def verify(
    names: Annotated[list[str] | None, typer.Argument(help=f"{_NAME} Default: all that are here.")] = None,
) -> None:
    """Check the checksums of weights on this machine."""
    from unprompted.backbones import hub, shipped

    screen = Screen()
    everything = [DEFAULT_BACKBONE, *(w.name for w in hub.installed())]
    for name in names or everything:
        for checked in shipped.verify() if name == DEFAULT_BACKBONE else hub.verify(name):
            screen.say("good", f"{name} {checked.path.name} {checked.checksum}")
