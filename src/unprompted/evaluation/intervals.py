"""How far a mean over cases could lie from that of other cases of the same kind."""

import numpy as np
from numpy.typing import NDArray

_DRAWS = 2000
Interval = tuple[float, float]


def bootstrap(table: NDArray[np.float64], seed: int = 0) -> tuple[Interval | None, list[Interval | None]]:
    """95 % percentile intervals of means over cases (Efron's bootstrap, 2000 draws of cases).

    Args:
        table: ``(cases, classes)`` scores, NaN where a class is in neither prediction nor reference.
        seed: decides the draws.

    Returns:
        The interval of the mean of the class means, and that of each class mean; None where fewer than
        two cases have a score.
    """
    cases = len(table)
    counts = np.random.default_rng(seed).multinomial(cases, np.full(cases, 1 / max(cases, 1)), _DRAWS)
    known = np.isfinite(table)
    sums = counts @ np.where(known, table, 0.0)
    weights = counts @ known.astype(np.float64)
    with np.errstate(invalid="ignore"):
        means = np.where(weights > 0, sums / np.maximum(weights, 1), np.nan)
    enough = known.sum(axis=0) > 1
    classes = [_interval(means[:, k]) if enough[k] else None for k in range(table.shape[1])]
    if not enough.any():
        return None, classes
    held = np.isfinite(means)
    drawn = held.any(axis=1)
    overall = np.where(held, means, 0.0)[drawn].sum(axis=1) / held[drawn].sum(axis=1)
    return _interval(overall), classes


def _interval(means: NDArray[np.float64]) -> Interval:
    low, high = np.nanpercentile(means, (2.5, 97.5))
    return float(low), float(high)
