"""Brightness of one case matched to others by landmarks of its histogram.

Paper: Nyul and Udupa 1999, "On standardizing the MR image intensity scale". Differs: the ends 0 and 1
are kept, for cases are scaled already; foreground is what is not black rather than what is brighter than
the mean, which would move with the contrast that is to be removed.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from unprompted.intensity import Scaled
from unprompted.ranks import quantiles
from unprompted.slices import Slices, blocks

Landmarks = NDArray[np.float64]

_BLACK = 0.05  # air in MR lies below; its share of a case says nothing about tissue
_DECILES = np.linspace(0.0, 1.0, 11)[:-1]  # of the foreground; the first is its lower border
_STEP = 1e-6  # keeps landmarks apart where many voxels are equally bright


def landmarks(values: Slices) -> Landmarks:
    """Landmarks of one case in 0..1: 0, ten quantiles of its foreground, 1; strictly growing."""
    foreground = any((block > _BLACK).any() for block in blocks(values))

    def shown() -> Iterator[Scaled]:
        return (block[block > _BLACK] if foreground else block for block in blocks(values))

    marks = np.concatenate([[0.0], quantiles(shown, _DECILES.tolist()), [1.0]])
    return marks + _STEP * np.arange(len(marks))


def mean_landmarks(cases: Sequence[Slices]) -> Landmarks:
    """What cases are matched to."""
    mean: Landmarks = np.mean([landmarks(values) for values in cases], axis=0)
    return mean


def matched(values: Scaled, own: Landmarks, wanted: Landmarks) -> Scaled:
    """Values of a case with its own landmarks moved to the wanted ones, linear between, never reordered."""
    return np.interp(values, own, wanted).astype(np.float32).clip(0.0, 1.0)
