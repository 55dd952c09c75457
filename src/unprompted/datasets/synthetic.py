"""Generated abdomens for the demo and for tests: no file, no download, no real patient."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unprompted.errors import UsageError
from unprompted.geometry import Grid
from unprompted.images import LabelMap, Volume

_SHAPE = (24, 96, 96)
_SPACING_MM = (3.0, 1.0, 1.0)
_WINDOW_HU = (-160.0, 240.0)  # what 0 and 1 of a generated CT picture stand for
_ORGANS = ("liver-like", "spleen-like", "left kidney-like", "right kidney-like", "aorta-like")


def _classes() -> dict[int, str]:
    return dict(enumerate(_ORGANS, 1))


@dataclass(frozen=True)
class Synthetic:
    """Patients of one generated abdomen, CT-like in Hounsfield units or MR-like in arbitrary ones.

    Attributes:
        classes: label value to organ name; "liver-like" is a shape in a liver's place, nothing more.
        count: number of patients.
        modality: "ct" or "mr".
        seed: decides the usual anatomy and the look of its tissues; patients differ within it.
    """

    classes: dict[int, str] = field(default_factory=_classes)
    count: int = 8
    modality: str = "ct"
    seed: int = 10

    def cases(self) -> tuple[str, ...]:
        """Names of all cases, sorted."""
        return tuple(f"patient-{number:02d}" for number in range(1, self.count + 1))

    def load(self, case: str) -> tuple[Volume, LabelMap]:
        """One patient: ``(24, 96, 96)`` voxels of 3 x 1 x 1 mm with five labelled organs.

        Raises:
            UsageError: there is no such patient.
        """
        names = self.cases()
        if case not in names:
            raise UsageError(f"case {case!r} is unknown; the generated cases are {', '.join(names)}")
        # Torch takes seconds to import, which a listing of the cases need not wait for.
        from unprompted.training.synth import subject_volume

        image, labels = subject_volume(
            self.seed, names.index(case) + 1, _SHAPE, classes=len(self.classes), modality=self.modality
        )
        voxels: NDArray[np.float32] = image.numpy()
        low, high = _WINDOW_HU if self.modality == "ct" else (0.0, 1000.0)
        grid = _grid()
        values: NDArray[np.uint8] = labels.numpy()
        return Volume(low + voxels * (high - low), grid, name=case), LabelMap(
            values, grid, dict(self.classes)
        )

    def patient(self, case: str) -> str:
        """Every case is a patient of its own."""
        return case

    def held_out(self) -> tuple[str, ...]:
        """There is no official split."""
        return ()


def _grid() -> Grid:
    """Slices upwards (S), rows to the back (P), columns to the patient's left (L)."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = _SPACING_MM[0], -_SPACING_MM[1], -_SPACING_MM[2]
    affine[3, 3] = 1.0
    affine[:3, 3] = [_SHAPE[2] / 2, _SHAPE[1] / 2, 0.0]
    return Grid(_SHAPE, affine)
