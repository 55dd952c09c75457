"""Class names and colours in the text files that viewers read."""

from collections.abc import Mapping

from unprompted.palette import colour_of, hex_of


def slicer_table(classes: Mapping[int, str]) -> str:
    """A colour table of 3D Slicer (``.ctbl``): number, name, red, green, blue, opacity."""
    lines = ["# Color table of unprompted", "0 Background 0 0 0 0"]
    for value, name in sorted(classes.items()):
        red, green, blue = colour_of(value)
        lines.append(
            f"{value} {'_'.join(name.split())} {red} {green} {blue} 255"
        )  # names hold no space there
    return "\n".join(lines) + "\n"


def itksnap_table(classes: Mapping[int, str]) -> str:
    """A label description file of ITK-SNAP: number, colour, opacity, whether seen, whether in 3D, name."""
    lines = ["# ITK-SnAP Label Description File", '    0     0    0    0        0  0  0    "Clear Label"']
    for value, name in sorted(classes.items()):
        red, green, blue = colour_of(value)
        quoted = name.replace('"', "'")
        lines.append(f'{value:>5} {red:>5} {green:>4} {blue:>4}        1  1  1    "{quoted}"')
    return "\n".join(lines) + "\n"


def bids_table(classes: Mapping[int, str]) -> str:
    """The ``dseg.tsv`` of a BIDS segmentation: index, name, colour."""
    rows = [f"{value}\t{' '.join(name.split())}\t{hex_of(value)}" for value, name in sorted(classes.items())]
    return "\n".join(["index\tname\tcolor", *rows]) + "\n"
