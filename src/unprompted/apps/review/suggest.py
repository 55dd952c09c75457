"""Which case and slice a reader should correct next: where the model thinks it is most wrong."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unprompted.apps.batch.keep import REVIEW
from unprompted.apps.review.cohort import finished, predicted_dice, quality_of, record_of, run_of
from unprompted.apps.review.store import CaseState, peek

_SPREAD = 0.05  # of the slices of a case: neighbours of a corrected slice teach next to nothing new


@dataclass(frozen=True)
class Suggestion:
    """A slice worth correcting.

    Attributes:
        case: its name.
        slice: counted from 0 along the slice axis.
        predicted_dice: of the case, None where no class can be judged.
        wrong_pixels: how many pixels of the slice the model expects to be wrong.
    """

    case: str
    slice: int
    predicted_dice: float | None
    wrong_pixels: float


def suggest(folder: Path, most: int = 5) -> list[Suggestion]:
    """The slices of an output folder most worth correcting, one a case, the worst case first.

    Cases that a reader has accepted or rejected are left out.

    Raises:
        UsageError: the folder holds no results.
        DataRefused: its records cannot be read.
    """
    run_of(folder)
    names = finished(folder)
    states = peek(folder / REVIEW, names)
    return ranked({name: record_of(folder, name) for name in names}, states)[:most]


def ranked(records: Mapping[str, Mapping[str, Any]], states: Mapping[str, CaseState]) -> list[Suggestion]:
    """One suggestion a case that is open, the case of lowest predicted Dice first."""
    found = []
    for name, record in records.items():
        state = states.get(name, CaseState())
        if state.status != "open":
            continue
        quality, pixels = quality_of(record)
        number = worst_slice(quality, pixels, state.slices)
        if number is not None:
            wrong = float(expected_wrong(quality, pixels)[number])
            found.append(Suggestion(name, number, predicted_dice(record), round(wrong, 1)))
    return sorted(found, key=lambda s: (1.0 if s.predicted_dice is None else s.predicted_dice, s.case))


def worst_slice(
    quality: NDArray[np.float64], pixels: NDArray[np.int64], corrected: Collection[int]
) -> int | None:
    """The slice of most expected wrong pixels that is not near a corrected one; None where none is left.

    Args:
        quality: predicted IoU, ``(D, K)``.
        pixels: found of each class, ``(D, K)``.
        corrected: slices that are corrected already.
    """
    wrong = expected_wrong(quality, pixels)
    depth = len(wrong)
    reach = round(depth * _SPREAD)
    taken = np.zeros(depth, bool)
    taken[list(corrected)] = True
    near = taken.copy()
    for n in corrected:
        near[max(0, n - reach) : n + reach + 1] = True
    for blocked in (near, taken):  # near ones are better than none
        if not blocked.all():
            return int(np.where(blocked, -1.0, wrong).argmax())
    return None


def expected_wrong(quality: NDArray[np.float64], pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Pixels of every slice that are expected to be wrong, ``(D,)``: ``sum_k (1 - IoU) pixels``."""
    wrong: NDArray[np.float64] = ((1 - quality) * pixels).sum(axis=1)
    return wrong
