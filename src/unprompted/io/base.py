"""The contract of a file format, and the one way to read and write through it."""

from pathlib import Path
from typing import Protocol

from unprompted.images import LabelMap, Volume


class Reader(Protocol):
    """One file format.

    Arrays come out in the canonical order of `unprompted.geometry`; nothing else moves axes.
    """

    suffixes: tuple[str, ...]

    def read(self, path: Path) -> Volume:
        """The image in a file (or, for a video, a folder of frames)."""
        ...

    def read_labels(self, path: Path) -> LabelMap:
        """The label map in a file."""
        ...

    def write_labels(self, labels: LabelMap, path: Path, like: Path) -> None:
        """Write a label map on the stored grid of the image file `like`."""
        ...
