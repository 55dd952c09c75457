"""How well the Dice predicted without truth agrees with the measured one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from scipy.stats import spearmanr

Scores = Sequence[float | None]


@dataclass(frozen=True)
class Agreement:
    """Predicted against measured Dice.

    Attributes:
        cases: predictions that count.
        spearman_cases: rank correlation over cases, each the mean of its classes; None where it is undefined,
            as below three cases.
        spearman_classes: the same over pairs of case and class.
        mean_error: predicted less measured, over pairs.
        mean_absolute_error: over pairs.
        worst_fifth: as many cases as a fifth, rounded up.
        worst_fifth_found: how many of the worst fifth are among as many of the lowest predicted.
    """

    cases: int
    spearman_cases: float | None
    spearman_classes: float | None
    mean_error: float
    mean_absolute_error: float
    worst_fifth: int
    worst_fifth_found: int


def agreement(cases: Sequence[tuple[Scores, Scores]]) -> Agreement | None:
    """Compare the predicted with the measured Dice of many cases.

    Classes in neither prediction nor truth, and those whose prediction is left open, do not count.

    Args:
        cases: for each the measured and the predicted Dice of its classes, None where there is none.

    Returns:
        None where no case has both.
    """
    pairs = [
        [(true, told) for true, told in zip(*case, strict=True) if true is not None and told is not None]
        for case in cases
    ]
    known = [found for found in pairs if found]
    if not known:
        return None
    means = np.array([np.mean(found, axis=0) for found in known])
    every = np.array([pair for found in known for pair in found])
    errors = every[:, 1] - every[:, 0]
    worst = math.ceil(len(means) / 5)
    lowest = [set(np.argsort(column, kind="stable")[:worst].tolist()) for column in means.T]
    return Agreement(
        len(means),
        _spearman(means),
        _spearman(every),
        fmean(errors.tolist()),
        fmean(np.abs(errors).tolist()),
        worst,
        len(lowest[0] & lowest[1]),
    )


def cases_of(results: Sequence[Mapping[str, Any]]) -> list[tuple[Scores, Scores]]:
    """Measured and predicted Dice of every case of results whose method predicts it."""
    cases = [scores for result in results for scores in result["cases"].values()]
    return [(scores["Dice"], scores["predicted"]) for scores in cases if "predicted" in scores]


def _spearman(pairs: np.ndarray) -> float | None:
    """None below three pairs or where one of the two never changes."""
    if len(pairs) < 3 or (np.ptp(pairs, axis=0) == 0).any():
        return None
    return float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic)
