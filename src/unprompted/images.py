"""Images and label maps: arrays that know their grid."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unprompted.errors import DataRefused, GeometryMismatch, LabelRefused
from unprompted.geometry import Grid, canonical_reordering
from unprompted.slices import Slices, blocks, is_mapped

SequenceAxis = Literal["z", "t"]


@dataclass(frozen=True, eq=False)
class Volume:
    """A stack of slices or frames.

    Attributes:
        voxels: ``(D, H, W)`` for one channel or ``(D, H, W, 3)`` for RGB, float32, finite, as stored
            in the file (Hounsfield units stay Hounsfield units; 8-bit images stay 0-255). Large volumes
            lie in a temporary file, and long films are decoded when frames are asked for, as bytes.
        grid: where the voxels lie.
        axis: "z" for slices of a volume (a single image is D=1), "t" for frames of a video.
        name: the case name, used for output files.
    """

    voxels: Slices
    grid: Grid
    axis: SequenceAxis = "z"
    name: str = "case"

    def __post_init__(self) -> None:
        shape = self.voxels.shape
        if not (len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)) or 0 in shape:
            raise DataRefused(
                f"{self.name}: a volume has shape (D, H, W) or (D, H, W, 3), found {shape}; "
                "split 4D images into one file each"
            )
        if shape[:3] != self.grid.shape:
            raise GeometryMismatch(f"{self.name}: voxels {shape[:3]} do not fill the grid {self.grid.shape}")
        voxels: Any = self.voxels
        bad = (
            sum(int(np.size(b) - np.isfinite(b).sum()) for b in blocks(voxels)) if _may_be_bad(voxels) else 0
        )
        if bad:
            raise DataRefused(
                f"{self.name}: {bad} voxels are NaN or infinite; replace them "
                "(by the background value, say) before segmenting"
            )
        if isinstance(voxels, np.ndarray) and not is_mapped(voxels):
            object.__setattr__(self, "voxels", np.ascontiguousarray(voxels, dtype=np.float32))

    @property
    def whole(self) -> NDArray[np.float32]:
        """All voxels as one array in memory."""
        return np.asarray(self.voxels, dtype=np.float32)

    @property
    def is_rgb(self) -> bool:
        """Whether voxels carry three colour channels."""
        return self.voxels.ndim == 4

    def sliced_along(self, axis: str | None) -> "Volume":
        """The same image with d along another anatomical axis; videos and flat images stay."""
        if axis is None or self.axis == "t" or self.grid.shape[0] == 1:
            return self
        order = canonical_reordering(self.grid, axis)
        voxels = order.apply(np.asarray(self.voxels))
        return replace(self, voxels=voxels, grid=order.apply_to_grid(self.grid))


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Integer labels on a grid; 0 is background.

    Attributes:
        labels: ``(D, H, W)`` uint8, or uint16 above 255 classes.
        grid: where the voxels lie.
        classes: label value to class name, background left out.
        labelled: ``(D,)`` bool, False for slices nobody labelled; None when all are labelled.
    """

    labels: NDArray[np.uint8] | NDArray[np.uint16]
    grid: Grid
    classes: dict[int, str] = field(default_factory=dict)
    labelled: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.labels.ndim != 3:
            raise LabelRefused(f"a label map is (D, H, W), found shape {self.labels.shape}")
        if self.labels.shape != self.grid.shape:
            raise GeometryMismatch(f"labels {self.labels.shape} do not fill the grid {self.grid.shape}")
        if self.labels.dtype not in (np.uint8, np.uint16):
            raise LabelRefused(f"labels are uint8 or uint16, found {self.labels.dtype}")
        if self.labelled is not None and self.labelled.shape != (self.grid.shape[0],):
            raise LabelRefused(
                f"labelled has one flag a slice ({self.grid.shape[0]}), found {self.labelled.shape}"
            )

    def sliced_along(self, axis: str | None) -> "LabelMap":
        """The same labels with d along another anatomical axis."""
        if axis is None or self.grid.shape[0] == 1:
            return self
        order = canonical_reordering(self.grid, axis)
        if self.labelled is not None and order.axes[0] != 0:
            raise LabelRefused(
                "only some slices are labelled, and they lie across the chosen slice axis; "
                "choose the axis along which the slices were labelled with --axis"
            )
        labelled = self.labelled
        if labelled is not None and order.flips[0]:
            labelled = labelled[::-1].copy()
        labels: Any = self.labels
        return replace(
            self, labels=order.apply(labels), grid=order.apply_to_grid(self.grid), labelled=labelled
        )

    def counts(self) -> NDArray[np.int64]:
        """Voxels of every value on every slice, ``(D, n)``; n exceeds every value found and every class."""
        width = max([largest_label(self.labels), *self.classes]) + 1
        rows = [np.bincount(one.ravel(), minlength=width) for b in blocks(self.labels) for one in b]
        return np.stack(rows)

    def only_slices_with_labels(self) -> "LabelMap":
        """Treat every slice without any label as unlabelled rather than as background."""
        return replace(self, labelled=np.asarray(self.labels.any(axis=(1, 2))))


def largest_label(labels: Slices) -> int:
    """The largest value of a label map."""
    return max(int(block.max(initial=0)) for block in blocks(labels))


def _may_be_bad(voxels: Slices) -> bool:
    """Whether values may be no number; frames on demand were looked at when their file was opened."""
    return isinstance(voxels, np.ndarray) and np.issubdtype(voxels.dtype, np.floating)
