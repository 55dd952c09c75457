"""Quantiles of more values than fit into memory, equal to those numpy gives for an array of all of them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Parts = Callable[[], Iterable[NDArray[Any]]]  # all values, part by part; asked for twice
_HALF = 16  # bits counted in one pass


def quantiles(parts: Parts, at: Sequence[float]) -> NDArray[np.float64]:
    """Quantiles as `numpy.quantile` interpolates them by default.

    The values at the ranks in question are found exactly: one pass counts the upper halves of all values'
    bits, a second one the lower halves of those that share an upper half with a rank.

    Args:
        parts: float32 values, at least one in all.
        at: in 0..1.
    """
    upper = np.zeros(1 << _HALF, np.int64)
    for part in parts():
        upper += np.bincount(_keys(part) >> _HALF, minlength=1 << _HALF)
    ends = np.cumsum(upper)
    places = np.asarray(at, np.float64) * (ends[-1] - 1)
    ranks = np.unique(np.concatenate([np.floor(places), np.ceil(places)]).astype(np.int64))
    homes = np.searchsorted(ends, ranks, side="right")
    lower = {int(home): np.zeros(1 << _HALF, np.int64) for home in homes}
    for part in parts():
        keys = _keys(part)
        halves = keys >> _HALF
        for home, counts in lower.items():
            counts += np.bincount(keys[halves == home] & ((1 << _HALF) - 1), minlength=1 << _HALF)
    value = {}
    for rank, home in zip(ranks.tolist(), homes.tolist(), strict=True):
        within = rank - int(ends[home] - upper[home])
        key = (home << _HALF) | int(np.searchsorted(np.cumsum(lower[home]), within, side="right"))
        value[rank] = _value(key)
    # numpy itself draws the line between the two values, in the order of rounding that it has
    return np.array([_between(value, place) for place in places])


def _between(value: dict[int, np.float32], place: float) -> float:
    low = int(np.floor(place))
    pair = np.array([value[low], value[int(np.ceil(place))]], np.float32)
    return float(np.quantile(pair, place - low))


def _keys(values: NDArray[Any]) -> NDArray[np.uint32]:
    """Unsigned integers in the order of float32 values."""
    bits = np.ascontiguousarray(values, np.float32).ravel() + np.float32(0)  # no negative zero
    whole = bits.view(np.uint32)
    keys: NDArray[np.uint32] = np.where(whole >> 31, ~whole, whole | np.uint32(1 << 31))
    return keys


def _value(key: int) -> np.float32:
    whole = np.uint32(key)
    bits = whole ^ np.uint32(1 << 31) if whole >> np.uint32(31) else ~whole
    found: np.float32 = np.array([bits], np.uint32).view(np.float32)[0]
    return found
