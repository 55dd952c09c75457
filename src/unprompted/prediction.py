"""What a segmentation run gives back."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unprompted.images import LabelMap

REVIEW_BELOW = 0.5  # predicted Dice


@dataclass(frozen=True, eq=False)
class Provenance:
    """How a prediction was made; holds no file path and no patient data.

    Attributes:
        method: registry name of the method.
        settings: its settings.
        views: names of the test-time choices that were on.
        backbone: name of the backbone.
        weights_sha256: digest of the backbone's parameters.
        support_digest: digest of the support set.
        versions: package name to version.
        seed: the seed of `Segmenter.fit`.
        device: where it ran, such as "cpu".
        elapsed_s: seconds this case took.
    """

    method: str
    settings: dict[str, Any]
    views: tuple[str, ...]
    backbone: str
    weights_sha256: str
    memory_pool: int
    support_digest: str
    versions: dict[str, str]
    seed: int
    device: str
    elapsed_s: float


@dataclass(frozen=True)
class Chosen:
    """A support frame that a method chose for one object of one frame of the query.

    Attributes:
        object: number of the class, 0..K-1, classes by label value.
        case: number of the support case, cases by name.
        position: slice index inside that case.
        score: how alike the two frames are; higher is more alike, the scale is the method's.
        copy: number of the augmented copy, 0 for the slice itself.
    """

    object: int
    case: int
    position: int
    score: float
    copy: int = 0


@dataclass(frozen=True)
class PredictedDice:
    """The Dice that one class of one prediction is thought to have, without its truth.

    Attributes:
        name: of the class.
        dice: `own`, lowered where `round_trip` is low. Of a class found nowhere it is 0 where every labelled
            case shows it, else None: it may well be absent.
        own: from the model's own estimate; None where the class was found nowhere.
        round_trip: Dice of labelled cases segmented back, as a share in 0..1 of what true labels reach
            there; None where that was not done or could not tell.
    """

    name: str
    dice: float | None
    own: float | None = None
    round_trip: float | None = None

    @property
    def review(self) -> bool:
        """Whether someone should look."""
        return self.dice is not None and self.dice < REVIEW_BELOW


@dataclass(frozen=True, eq=False)
class Prediction:
    """Labels of one case with the model's own estimates.

    Attributes:
        labels: label map on the query's grid.
        confidence: ``(D, H, W)`` float16 in 0..1, the probability of the label given.
        quality: ``(D, K)`` float32 in 0..1, predicted IoU times presence, or, of refined masks, the IoU to
            expect from their chances; classes by label value; one row a slice along the slice axis the task
            was fitted with, upwards.
        provenance: how it was made.
        chosen: slice to the support chosen for it, best first; empty for methods that choose none.
    """

    labels: LabelMap
    confidence: NDArray[np.float16] = field(repr=False)
    quality: NDArray[np.float32] = field(repr=False)
    provenance: Provenance
    chosen: dict[int, tuple[Chosen, ...]] = field(default_factory=dict, repr=False)
