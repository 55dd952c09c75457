"""What every dataset gives, whether built in, public or the user's own folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from unprompted.images import LabelMap, Volume


class Dataset(Protocol):
    """Labelled cases under one set of classes."""

    @property
    def classes(self) -> dict[int, str]:
        """Label value to class name, background left out; empty where nobody names them."""
        ...

    def cases(self) -> Sequence[str]:
        """Names of all cases, sorted."""
        ...

    def load(self, case: str) -> tuple[Volume, LabelMap]:
        """One case with its labels, on equal grids."""
        ...

    def patient(self, case: str) -> str:
        """Whom a case shows: cases of one patient never lie on both sides of a split."""
        ...

    def held_out(self) -> Sequence[str]:
        """Cases that an official split keeps for testing; empty where there is none."""
        ...


@dataclass(frozen=True)
class CaseFiles:
    """Where one case lies.

    Attributes:
        name: the case name, used for output files.
        image: a file, or the folder of a video's frames.
        labels: a file or a folder of masks; the image itself where one file holds both; None where
            the case is a query.
        ignore: the label value that means "nobody decided"; slices that hold it count as unlabelled.
    """

    name: str
    image: Path
    labels: Path | None = None
    ignore: int | None = None


@dataclass(frozen=True)
class FolderLayout:
    """What a folder was recognised as.

    Attributes:
        kind: one of the names in `unprompted.datasets.folder`.
        cases: sorted by name, never empty.
        classes: label value to class name where the folder names them, else None.
        note: one printable line of what was found.
    """

    kind: str
    cases: tuple[CaseFiles, ...]
    classes: dict[int, str] | None
    note: str
