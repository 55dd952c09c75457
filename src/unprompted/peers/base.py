"""The contract of a peer: it gets the support a method gets, and segments one query at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unprompted.images import LabelMap, Volume

Cases = Sequence[tuple[Volume, LabelMap]]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class TrainedPeer:
    """A peer after its support.

    Attributes:
        segment: labels of a query on its own grid.
        about: what a result should say of the training, as JSON types.
    """

    segment: Callable[[Volume], LabelMap]
    about: dict[str, Any] = field(default_factory=dict)


class Peer(Protocol):
    """A frozen dataclass whose fields are its settings."""

    def fit(self, cases: Cases, classes: dict[int, str], seed: int, progress: Progress) -> TrainedPeer:
        """Learn from labelled cases.

        Args:
            cases: images with their labels.
            classes: label value to name; other values are background.
            seed: decides everything random.
            progress: called with what is being done and how far it is.
        """
        ...


def only_classes(labels: NDArray[Any], classes: dict[int, str]) -> NDArray[np.int64]:
    """Class numbers 1..K in the order of the label values; all other values are 0."""
    numbers = np.zeros(max(int(labels.max(initial=0)), *classes) + 1, np.int64)
    numbers[list(classes)] = np.arange(1, len(classes) + 1)
    return numbers[labels]


def label_map(numbers: NDArray[Any], volume: Volume, classes: dict[int, str]) -> LabelMap:
    """Class numbers ``(D, H, W)`` as the labels they stand for, on the grid of a volume."""
    values = np.array([0, *classes], np.uint16 if max(classes) > 255 else np.uint8)
    return LabelMap(values[numbers], volume.grid, dict(classes))
