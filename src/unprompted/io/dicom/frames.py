"""Single frames of classic and enhanced files: where each lies, and its pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.pixels.utils import pixel_array

from unprompted.errors import UnreadableFile
from unprompted.geometry import Affine
from unprompted.io.dicom.series import dataset_of

_NOT_UNIT = 1e-2  # what direction cosines may miss length 1 and a right angle by
_PLACE = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
Vector = NDArray[np.float64]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Place:
    """Where a plane of pixels lies, in the patient coordinates of DICOM (LPS, millimetres).

    Attributes:
        position: centre of the first pixel.
        directions: unit vectors of growing row and growing column index, ``(2, 3)``.
        spacing: distance of neighbouring rows and of neighbouring columns.
        thickness: distance to the next slice as the file says it, None where it does not.
    """

    position: Vector
    directions: Vector
    spacing: tuple[float, float]
    thickness: float | None = None

    @property
    def normal(self) -> Vector:
        """The unit vector across the plane: that of growing columns times that of growing rows."""
        return np.cross(self.directions[1], self.directions[0])

    @property
    def along(self) -> float:
        """How far the plane lies along its normal."""
        return float(self.position @ self.normal)

    @property
    def to_world(self) -> Affine:
        """``(4, 4)`` matrix from ``(0, row, column, 1)`` to RAS+ millimetres."""
        matrix = np.eye(4)
        matrix[:3, 0] = self.normal * (self.thickness or 1.0)
        matrix[:3, 1:3] = (self.directions * np.array(self.spacing)[:, None]).T
        matrix[:3, 3] = self.position
        return LPS_TO_RAS @ matrix


@dataclass(frozen=True, eq=False)
class Frame:
    """One plane of pixels.

    Attributes:
        file: where it is stored.
        index: its number inside the file from 0; None where the file holds one frame only.
        shape: rows and columns.
        spacing: distance of neighbouring rows and columns in mm, None where unknown.
        place: where it lies; None for pictures that lie nowhere in a patient.
    """

    file: Path
    index: int | None
    shape: tuple[int, int]
    spacing: tuple[float, float] | None = None
    place: Place | None = None


def frames_of(dataset: Dataset, file: Path) -> list[Frame]:
    """Every frame of a file, in stored order."""
    shape = (int(dataset.Rows), int(dataset.Columns))
    count = int(dataset.get("NumberOfFrames", 1) or 1)
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    if groups is None:
        if count == 1:
            return [_frame(file, None, shape, dataset, dataset, dataset)]
        spacing = _spacing(dataset)
        return [Frame(file, n, shape, spacing) for n in range(count)]
    if len(groups) != count:
        raise UnreadableFile(f"{file.name}: says it has {count} frames and describes {len(groups)}")
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    found = []
    for n, own in enumerate(groups):
        position, orientation, measures = (_group(name, own, shared) for name in _PLACE)
        found.append(_frame(file, n, shape, position, orientation, measures))
    return found


def pixels_of(dataset: Dataset, frame: Frame) -> NDArray[np.float32]:
    """The pixels of a frame: ``(rows, columns)`` in the units of the modality, or ``(..., 3)`` for RGB.

    Rescaling (to Hounsfield units, say) is applied; MONOCHROME1, in which low values are bright, is turned.

    Raises:
        UnreadableFile: no decoder is installed for its compression, or the pixels are cut off.
    """
    try:
        stored = pixel_array(dataset, index=frame.index)
    except (RuntimeError, NotImplementedError, AttributeError, ValueError) as error:
        name = dataset.file_meta.TransferSyntaxUID.name if "TransferSyntaxUID" in dataset.file_meta else "?"
        reason = " ".join(str(error).split())[:200]
        raise UnreadableFile(
            f"{frame.file.name}: its pixels ({name}) cannot be decoded; they are cut off, or a decoder is "
            f"missing (pip install python-gdcm, or pylibjpeg with its plug-ins): {reason}"
        ) from error
    if stored.ndim == 3:
        return stored.astype(np.float32)
    kind = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    if kind == "PALETTE COLOR":
        colours = apply_color_lut(stored, dataset)[..., :3]
        return (colours >> 8 if colours.dtype == np.uint16 else colours).astype(np.float32)
    if kind == "MONOCHROME1":
        stored = _turned(stored, dataset)
    return apply_modality_lut(stored, _rescaling(dataset, frame)).astype(np.float32)


def decoded(frames: Sequence[Frame]) -> NDArray[np.float32]:
    """The pixels of several frames in their order; every file is read once.

    Raises:
        UnreadableFile: a file cannot be decoded, or some frames are in colour and some are not.
    """
    pixels: list[NDArray[np.float32]] = []
    file, dataset = None, Dataset()
    for frame in frames:
        if frame.file != file:
            file, dataset = frame.file, dataset_of(frame.file)
        pixels.append(pixels_of(dataset, frame))
    if len({one.ndim for one in pixels}) > 1:
        raise UnreadableFile(f"{frames[0].file.parent.name}: some slices are in colour and some are not")
    return np.stack(pixels)


def _group(name: str, own: Dataset, shared: Dataset) -> Dataset:
    """A functional group: that of the frame, else that of all frames."""
    found = own.get(name) or shared.get(name)
    return found[0] if found else Dataset()


def _frame(
    file: Path,
    index: int | None,
    shape: tuple[int, int],
    position: Dataset,
    orientation: Dataset,
    measures: Dataset,
) -> Frame:
    where, turned = position.get("ImagePositionPatient"), orientation.get("ImageOrientationPatient")
    spacing = _spacing(measures)
    if not where or not turned or spacing is None:
        return Frame(file, index, shape, spacing)
    cosines = np.array([float(c) for c in turned]).reshape(2, 3)
    lengths = np.linalg.norm(cosines, axis=1)
    oblique = abs(float(cosines[0] @ cosines[1]))
    if min(spacing) <= 0 or np.abs(lengths - 1).max() > _NOT_UNIT or oblique > _NOT_UNIT:
        raise UnreadableFile(
            f"{file.name}: its orientation {cosines.ravel().tolist()} and pixel spacing {spacing} describe "
            "no plane; repair the header"
        )
    # Image Orientation gives first the direction along a row, which is that of growing column index.
    directions = (cosines / lengths[:, None])[::-1]
    thickness = measures.get("SpacingBetweenSlices") or measures.get("SliceThickness")
    depth = abs(float(thickness)) if thickness else None
    return Frame(
        file, index, shape, spacing, Place(np.array([float(p) for p in where]), directions, spacing, depth)
    )


def _spacing(measures: Dataset) -> tuple[float, float] | None:
    spacing = measures.get("PixelSpacing")
    return (float(spacing[0]), float(spacing[1])) if spacing else None


def _rescaling(dataset: Dataset, frame: Frame) -> Dataset:
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    if groups is None or frame.index is None:
        return dataset
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    own = _group("PixelValueTransformationSequence", groups[frame.index], shared)
    return own if "RescaleSlope" in own else dataset


def _turned(stored: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    top = 2 ** int(dataset.BitsStored) - 1
    return -1 - stored if int(dataset.get("PixelRepresentation", 0)) else top - stored
