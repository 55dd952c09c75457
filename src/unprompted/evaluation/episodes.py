"""Who supports, who is asked and which slices count: drawn once, by patient, from a seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from unprompted.datasets.base import Dataset
from unprompted.errors import DataRefused, UsageError
from unprompted.geometry import Grid
from unprompted.images import LabelMap, Volume
from unprompted.support import chosen_classes, classes_of

Slices = Literal["all", "labelled-range"]
_DRAWS = 50  # tries to find a support that shows every class


@dataclass(frozen=True)
class Episode:
    """Names of the cases of one task; no patient is on both sides.

    Attributes:
        support: cases that are given with their labels.
        queries: cases to segment, sorted.
        candidates: how many cases could have been asked.
        classes: label value to class name, each shown by the support.
    """

    support: tuple[str, ...]
    queries: tuple[str, ...]
    candidates: int
    classes: dict[int, str]


@dataclass(frozen=True)
class Draw:
    """How an episode is drawn.

    Attributes:
        shots: number of labelled cases.
        seed: 0 takes the first cases by name, any other seed draws patients at random.
        queries: ask this many cases at most, spread evenly over the names; None asks all.
        folds: split the patients by name into so many parts and ask those of part ``seed``; 0 asks all
            patients but those of the support.
        official: take the split of the dataset's authors: support from one side, queries from the other.
        labels: only these classes, by name or value; empty for all.
    """

    shots: int = 1
    seed: int = 0
    queries: int | None = None
    folds: int = 0
    official: bool = False
    labels: tuple[str, ...] = ()


def draw_episode(dataset: Dataset, draw: Draw) -> Episode:
    """The support and the queries of one task.

    A support that does not show every class of the dataset is drawn again.

    Raises:
        UsageError: there are too few patients, no official split, or no such fold.
        DataRefused: no support of that size shows every class.
    """
    patient_of = {case: dataset.patient(case) for case in dataset.cases()}
    givers, asked = _sides(dataset, patient_of, draw)
    for support in _supports(givers, patient_of, draw):
        taken = {patient_of[case] for case in support}
        open_cases = [case for case in asked if patient_of[case] not in taken]
        if not open_cases:
            raise UsageError(
                f"{draw.shots} shots leave no patient to ask: there are {len(patient_of)} cases of "
                f"{len(set(patient_of.values()))} patients; ask for fewer shots"
            )
        loaded = [dataset.load(case) for case in support]
        present = {int(value) for _, labels in loaded for value in np.unique(labels.labels)} - {0}
        wanted = chosen_classes(dataset.classes or classes_of(loaded), draw.labels)
        if set(wanted) <= present:
            return Episode(support, _spread(open_cases, draw.queries), len(open_cases), dict(wanted))
    missing = ", ".join(name for value, name in wanted.items() if value not in present)
    raise DataRefused(f"no support of {draw.shots} cases shows every class; the last one lacks {missing}")


def slices_that_count(volume: Volume, truth: LabelMap, slices: Slices) -> tuple[Volume, LabelMap]:
    """The query as a protocol has it: whole, or cut to the slices between the first and last label.

    The latter tells the method where the structures lie. It is there to compare with papers that do so.

    Raises:
        DataRefused: the range is asked for and the truth is empty.
    """
    if slices == "all":
        return volume, truth
    filled = np.flatnonzero(truth.labels.any(axis=(1, 2)))
    if not filled.size:
        raise DataRefused(f"{volume.name}: has no label, so no labelled range; use slices = all")
    keep = slice(int(filled[0]), int(filled[-1]) + 1)
    grid = _cut(volume.grid, keep)
    labelled = None if truth.labelled is None else truth.labelled[keep]
    cut = replace(truth, labels=truth.labels[keep].copy(), grid=grid, labelled=labelled)
    return replace(volume, voxels=volume.whole[keep], grid=grid), cut


def _sides(dataset: Dataset, patient_of: dict[str, str], draw: Draw) -> tuple[list[str], list[str]]:
    """The cases a support is drawn from, and those that may be asked."""
    cases = sorted(patient_of)
    if draw.official:
        held_out = set(dataset.held_out())
        if not held_out:
            raise UsageError("this dataset has no official split; leave out official = true")
        return [case for case in cases if case not in held_out], sorted(held_out)
    if not draw.folds:
        return cases, cases
    patients = sorted(set(patient_of.values()))
    if draw.seed >= draw.folds or draw.folds > len(patients):
        raise UsageError(
            f"fold {draw.seed} of {draw.folds} over {len(patients)} patients does not exist; "
            "seeds are the numbers of the folds, from 0"
        )
    asked = {str(name) for name in np.array_split(patients, draw.folds)[draw.seed]}
    inside = [case for case in cases if patient_of[case] in asked]
    return [case for case in cases if patient_of[case] not in asked], inside


def _supports(cases: Sequence[str], patient_of: dict[str, str], draw: Draw) -> Iterator[tuple[str, ...]]:
    """Supports to try: patient by patient until there are enough cases."""
    if not 1 <= draw.shots <= len(cases):
        raise UsageError(f"{draw.shots} shots of {len(cases)} cases; ask for 1 to {len(cases) - 1}")
    patients = sorted({patient_of[case] for case in cases})
    source = np.random.default_rng(draw.seed)
    for attempt in range(_DRAWS):
        by_name = attempt == 0 and draw.seed == 0
        order = patients if by_name else [patients[i] for i in source.permutation(len(patients))]
        drawn = [case for patient in order for case in sorted(cases) if patient_of[case] == patient]
        yield tuple(sorted(drawn[: draw.shots]))


def _spread(cases: Sequence[str], most: int | None) -> tuple[str, ...]:
    """At most so many cases, evenly spread over their names."""
    if most is None or most >= len(cases):
        return tuple(cases)
    return tuple(cases[int((n + 0.5) * len(cases) / most)] for n in range(most))


def _cut(grid: Grid, keep: slice) -> Grid:
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, 0] * keep.start
    return Grid((keep.stop - keep.start, *grid.shape[1:]), affine, grid.in_mm)
