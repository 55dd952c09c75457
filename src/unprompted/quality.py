"""How good a prediction is, told without its truth: by the model's own estimate, and by the way back."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unprompted.engine.round_trip import RoundTrip
from unprompted.images import LabelMap, Volume, largest_label
from unprompted.loading import make_method
from unprompted.prediction import PredictedDice, Prediction
from unprompted.registry import ROUND_TRIP_METHOD
from unprompted.segmenter import FittedSegmenter
from unprompted.slices import block_ranges, release, room_for
from unprompted.support import stacked

_FAILS_BELOW = 0.5  # share of the round trip that true labels reach
_LEAST_REACHED = 0.1  # round trip of true labels; where they reach less, the way back tells nothing
_ROUND_TRIP_SETTINGS = {"volumetric": False}  # the slices lie apart, so none tells about the next


@dataclass(frozen=True, eq=False)
class QualityCheck:
    """Predicts the Dice of predictions of one fitted task.

    Attributes:
        task: the task.
        way_back: None relies on the model's own estimate alone.
    """

    task: FittedSegmenter
    way_back: RoundTrip | None
    _known: dict[int, dict[int, float]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, task: FittedSegmenter, round_trip: bool = True) -> "QualityCheck":
        """A check of a task's predictions.

        Args:
            task: the task.
            round_trip: whether labelled cases are segmented back from every prediction, which costs time.
        """
        if not round_trip:
            return cls(task, None)
        method = make_method(ROUND_TRIP_METHOD, _ROUND_TRIP_SETTINGS)
        return cls(task, RoundTrip(method, task.backbone, task.fitted.gallery))

    def judge(self, volume: Volume, prediction: Prediction) -> tuple[PredictedDice, ...]:
        """The predicted Dice of every class, by label value.

        Args:
            volume: the query.
            prediction: what the task said about it.
        """
        axis, classes = self.task.axis, self.task.support.classes
        cut = prediction.labels if volume.axis == "t" else prediction.labels.sliced_along(axis)
        shares: dict[int, float] = {}
        if self.way_back is not None:
            numbers = _numbers(cut, classes)
            shares = self._shares(volume.sliced_along(axis), numbers, self._nearest(prediction))
        counts = cut.counts()
        judged = []
        for k, (value, name) in enumerate(classes.items(), start=1):
            pixels = counts[:, value]
            if pixels.any():
                own = _dice_of_iou(float(np.average(prediction.quality[:, k - 1], weights=pixels)))
                judged.append(_combined(name, own, shares.get(k)))
            else:
                judged.append(PredictedDice(name, 0.0 if value in self._everywhere else None))
        return tuple(judged)

    def _shares(self, volume: Volume, numbers: NDArray[Any], nearest: Sequence[int]) -> dict[int, float]:
        """Object number to its round trip, as a share of what true labels reach; the median over cases."""
        assert self.way_back is not None
        found: dict[int, list[float]] = {}
        for case, dices in self.way_back.dice(volume, numbers, nearest).items():
            for k in dices.keys() & self._reached(case).keys():
                found.setdefault(k, []).append(min(1.0, dices[k] / self._reached(case)[k]))
        return {k: median(shares) for k, shares in found.items()}

    def _reached(self, case: int) -> dict[int, float]:
        """The round trip to a labelled case from the true labels of the next one, object by object."""
        assert self.way_back is not None
        if case not in self._known:
            support = self.task.support
            other = support.cases[(case + 1) % len(support.cases)]
            own = [example for example in support.examples if example.case == other]
            volume, truth = stacked(own, self.task.axis, support.classes)
            dices = self.way_back.dice(volume, _numbers(truth, support.classes), [case]).get(case, {})
            self._known[case] = {k: dice for k, dice in dices.items() if dice >= _LEAST_REACHED}
        return self._known[case]

    @cached_property
    def _everywhere(self) -> set[int]:
        """The label values that every labelled case shows."""
        shown: dict[str, set[int]] = {case: set() for case in self.task.support.cases}
        for example in self.task.support.examples:
            shown[example.case] |= {int(v) for v in np.unique(example.labels)}
        return set.intersection(*shown.values())

    def _nearest(self, prediction: Prediction) -> list[int]:
        """Numbers of the labelled cases, those that the method chose most often for the query first."""
        counts = Counter(chosen.case for frame in prediction.chosen.values() for chosen in frame)
        return sorted(range(len(self.task.support.cases)), key=lambda case: -counts[case])


def _combined(name: str, own: float, share: float | None) -> PredictedDice:
    """The model's own estimate, lowered where the way back fails: by how far it is below `_FAILS_BELOW`."""
    dice = own if share is None else own * min(1.0, share / _FAILS_BELOW)
    return PredictedDice(name, *(None if d is None else round(d, 4) for d in (dice, own, share)))


def _dice_of_iou(iou: float) -> float:
    return 2 * iou / (1 + iou)


def _numbers(labels: LabelMap, classes: Mapping[int, str]) -> NDArray[Any]:
    """Object number 1..K of every voxel, 0 for background."""
    numbers = room_for(labels.labels.shape, np.int16)
    number_of = np.zeros(max([largest_label(labels.labels), *classes]) + 1, np.int16)
    number_of[list(classes)] = range(1, len(classes) + 1)
    for start, stop in block_ranges(numbers.shape, numbers.dtype):
        numbers[start:stop] = number_of[labels.labels[start:stop]]
        release(numbers)
    return numbers
