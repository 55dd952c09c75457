"""A published dataset as files on your disk: what is there, what should be, and how to get it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from unprompted.datasets.base import CaseFiles
from unprompted.datasets.folder import load_case
from unprompted.datasets.pairing import listed
from unprompted.errors import DataRefused, UnreadableFile, UsageError
from unprompted.images import LabelMap, Volume

Read = Callable[[CaseFiles], tuple[Volume, LabelMap]]


@dataclass(frozen=True)
class Collection:
    """Labelled cases of one published dataset. Each file beside this one makes one.

    Attributes:
        name: for messages.
        root: the folder it was unpacked to.
        classes: label value to class name, background left out.
        licence: under which it is given.
        obtain: where and how.
        layout: what `root` should hold, in a few words.
        files: case name to its image and labels.
        expected: number of cases of the whole dataset.
        partial: take what is there even where cases are missing.
        patient_of: whom a case shows; every case is a patient of its own unless told.
        test: cases of the official test side, where there is one.
        read: image and labels of a case; the plain reader unless told.
    """

    name: str
    root: Path
    classes: dict[int, str]
    licence: str
    obtain: str
    layout: str
    files: Mapping[str, CaseFiles]
    expected: int
    partial: bool = False
    patient_of: Callable[[str], str] = str
    test: tuple[str, ...] = ()
    read: Read = field(default=lambda files: with_labels(files))

    def __post_init__(self) -> None:
        how = f"{self.name} should hold {self.layout}. To obtain it: {self.obtain}"
        if not self.root.is_dir():
            raise UnreadableFile(f"{self.root}: there is no such folder. {how}")
        if not self.files:
            raise DataRefused(f"{self.root}: no case of {self.name} is here. {how}")
        unlabelled = [f.name for f in self.files.values() if f.labels is None or not f.labels.exists()]
        if unlabelled:
            raise DataRefused(f"{self.root}: no labels beside {listed(sorted(unlabelled))}. {how}")
        if len(self.files) != self.expected and not self.partial:
            raise DataRefused(
                f"{self.root}: {len(self.files)} of {self.expected} cases are here; numbers on a part are "
                f"not those of {self.name}. Unpack the rest, or set partial = true. {how}"
            )

    def cases(self) -> Sequence[str]:
        """Names of all cases, sorted."""
        return tuple(sorted(self.files))

    def load(self, case: str) -> tuple[Volume, LabelMap]:
        """One case with its labels, on equal grids.

        Raises:
            UsageError: there is no such case.
            DataRefused: a file cannot be used, or holds labels that the dataset does not have.
        """
        if case not in self.files:
            raise UsageError(f"{self.name} has no case {case!r}; it has {listed(self.cases())}")
        volume, labels = self.read(self.files[case])
        strangers = {int(value) for value in np.unique(labels.labels)} - {0, *self.classes}
        if strangers:
            raise DataRefused(
                f"{case}: its labels hold {sorted(strangers)}, which {self.name} does not have; "
                f"known are {self.classes}"
            )
        return replace(volume, name=case), replace(labels, classes=dict(self.classes))

    def patient(self, case: str) -> str:
        """Whom a case shows."""
        return self.patient_of(case)

    def held_out(self) -> Sequence[str]:
        """Cases of the official test side that are here."""
        return tuple(case for case in self.test if case in self.files)


def with_labels(files: CaseFiles) -> tuple[Volume, LabelMap]:
    """A case as its files hold it."""
    volume, labels = load_case(files)
    if labels is None:
        raise DataRefused(f"{files.name}: the case has no labels")
    return volume, labels


def with_mask(files: CaseFiles) -> tuple[Volume, LabelMap]:
    """A case whose label file is the mask of its only class."""
    volume, labels = with_labels(files)
    return volume, inside(labels)


def relabelled(labels: LabelMap, values: Mapping[int, int]) -> LabelMap:
    """Labels under other values; a value that is not named stays and will be refused."""
    table = np.arange(int(labels.labels.max(initial=0)) + 1, dtype=labels.labels.dtype)
    for old, new in values.items():
        if old < len(table):
            table[old] = new
    renamed: Any = table[labels.labels]
    return replace(labels, labels=renamed)


def inside(labels: LabelMap) -> LabelMap:
    """Everything that is not background as class 1: masks of 0 and 255, or greys that JPEG left."""
    return replace(labels, labels=(labels.labels > 0).astype(np.uint8))
