"""Label maps as RTSTRUCT: outlines run along the edges of voxels, so that reading back loses nothing."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from unprompted import __version__
from unprompted.errors import DataRefused
from unprompted.images import LabelMap
from unprompted.io.atomic import replacing
from unprompted.io.dicom.codes import code_of
from unprompted.io.dicom.frames import LPS_TO_RAS
from unprompted.io.dicom.image import StoredImage, stored_image
from unprompted.io.dicom.masks import MAKER, description_of
from unprompted.io.dicom.series import RTSTRUCT_CLASS
from unprompted.io.dicom.sources import date_like, referring_to, source_headers, stable_uid
from unprompted.io.labels import stored_labels
from unprompted.palette import colour_of

_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # detached study management, as the standard still asks for
_COPIED = (
    "SpecificCharacterSet", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
    "ReferringPhysicianName", "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
)  # fmt: skip
Corner = tuple[int, int]


def write_rtstruct(labels: LabelMap, path: Path, like: Path) -> None:
    """Write one structure a class on the slices of the series `like`; equal labels give equal bytes.

    Raises:
        GeometryMismatch: the labels do not lie on the voxels of the series.
        DataRefused: the series has no place in a patient, or was resampled, so there is no slice to refer to.
    """
    image = stored_image(like)
    if image.stack is None or image.stack.is_resampled:
        what = "lies nowhere in a patient" if image.stack is None else "has uneven slices and was resampled"
        raise DataRefused(f"{like.name}: the image {what}, and outlines belong to its slices; write a SEG")
    stored = stored_labels(labels, image.grid)
    with referring_to(like):
        dataset = _made(labels, stored, image)
    with replacing(path) as partial:
        dataset.save_as(partial, enforce_file_format=True)


def _made(labels: LabelMap, stored: NDArray[Any], image: StoredImage) -> Dataset:
    sources = source_headers(image)
    uid = stable_uid(sources, "RTSTRUCT", sorted(labels.classes.items()), stored)
    dataset = _structure_set(sources, uid)
    for number, (value, name) in enumerate(sorted(labels.classes.items()), start=1):
        _add_structure(dataset, number, value, name)
        contours = list(_contours(stored == value, image, sources))
        roi = _item(ReferencedROINumber=number, ROIDisplayColor=list(colour_of(value)))
        if contours:
            roi.ContourSequence = contours
        dataset.ROIContourSequence.append(roi)
    date_like(dataset, sources[0])
    return dataset


def outlines_of(mask: NDArray[np.bool_]) -> list[list[Corner]]:
    """Closed outlines along the pixel edges of a 2D mask; holes are outlines of their own.

    Corners are ``(row, column)`` of pixel corners: pixel (0, 0) has the corners (0, 0) to (1, 1). Corners
    in the middle of a straight run are left out.
    """
    padded = np.pad(mask, 1)
    after: dict[Corner, list[Corner]] = defaultdict(list)
    # The inside lies to the right of every edge, so that an outline runs round it and back to its start.
    for (row, column), (to_row, to_column), edges in (
        ((0, 0), (0, 1), padded[1:, 1:-1] & ~padded[:-1, 1:-1]),
        ((0, 1), (0, 0), ~padded[1:, 1:-1] & padded[:-1, 1:-1]),
        ((1, 0), (0, 0), padded[1:-1, 1:] & ~padded[1:-1, :-1]),
        ((0, 0), (1, 0), ~padded[1:-1, 1:] & padded[1:-1, :-1]),
    ):
        for r, c in np.argwhere(edges).tolist():
            after[(r + row, c + column)].append((r + to_row, c + to_column))
    outlines = []
    while after:
        start = min(after)
        outlines.append(_straightened(_walked(after, start)))
    return outlines


def _walked(after: dict[Corner, list[Corner]], start: Corner) -> list[Corner]:
    corners, here = [start], start
    before = (0, -1)  # the outline of the topmost row begins to the right
    while True:
        ways = after[here]
        # Where two pixels meet at a corner only, turning right keeps to the same pixel.
        way = max(ways, key=lambda to: _is_right_turn(before, (to[0] - here[0], to[1] - here[1])))
        ways.remove(way)
        if not ways:
            del after[here]
        before, here = (way[0] - here[0], way[1] - here[1]), way
        if here == start:
            return corners
        corners.append(here)


def _is_right_turn(before: Corner, now: Corner) -> int:
    """1 where a step turns to the right of the one before, rows growing downwards."""
    return before[1] * now[0] - before[0] * now[1]


def _straightened(corners: list[Corner]) -> list[Corner]:
    kept = []
    for n, (row, column) in enumerate(corners):
        before, after = corners[n - 1], corners[(n + 1) % len(corners)]
        if not (before[0] == row == after[0] or before[1] == column == after[1]):
            kept.append((row, column))
    return kept


def _contours(mask: NDArray[np.bool_], image: StoredImage, sources: list[Dataset]) -> Iterator[Dataset]:
    to_lps = LPS_TO_RAS @ image.grid.affine
    for number in np.flatnonzero(mask.any(axis=(1, 2))):
        frame = image.frames[number]
        source = sources[image.files.index(frame.file)]
        referenced = _item(
            ReferencedSOPClassUID=source.SOPClassUID, ReferencedSOPInstanceUID=source.SOPInstanceUID
        )
        if frame.index is not None:
            referenced.ReferencedFrameNumber = frame.index + 1
        for corners in outlines_of(mask[number]):
            # The corner of a pixel lies half a pixel before its centre.
            points = np.array([(number, row - 0.5, column - 0.5, 1.0) for row, column in corners]) @ to_lps.T
            yield _item(
                ContourImageSequence=[referenced],
                ContourGeometricType="CLOSED_PLANAR",
                NumberOfContourPoints=len(points),
                ContourData=[f"{value:.6f}"[:16] for value in points[:, :3].ravel()],
            )


def _structure_set(sources: list[Dataset], uid: str) -> Dataset:
    first, dataset = sources[0], Dataset()
    for name in _COPIED:
        if name in first:
            setattr(dataset, name, first[name].value)
    dataset.SOPClassUID, dataset.SOPInstanceUID = UID(RTSTRUCT_CLASS), UID(uid)
    dataset.SeriesInstanceUID, dataset.SeriesNumber = stable_uid(sources, uid, "series"), 902
    dataset.Modality, dataset.SeriesDescription, dataset.InstanceNumber = "RTSTRUCT", "Segmentation", 1
    dataset.Manufacturer = dataset.ManufacturerModelName = MAKER
    dataset.SoftwareVersions, dataset.OperatorsName = __version__, ""
    dataset.SeriesDate = dataset.SeriesTime = ""
    dataset.StructureSetLabel, dataset.StructureSetDate, dataset.StructureSetTime = "SEGMENTATION", "", ""
    dataset.ApprovalStatus = "UNAPPROVED"
    images = [
        _item(ReferencedSOPClassUID=s.SOPClassUID, ReferencedSOPInstanceUID=s.SOPInstanceUID) for s in sources
    ]
    series = _item(SeriesInstanceUID=first.SeriesInstanceUID, ContourImageSequence=images)
    study = _item(
        ReferencedSOPClassUID=_STUDY_CLASS,
        ReferencedSOPInstanceUID=first.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    space = _item(FrameOfReferenceUID=first.FrameOfReferenceUID, RTReferencedStudySequence=[study])
    dataset.ReferencedFrameOfReferenceSequence = [space]
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = first.FrameOfReferenceUID, ""
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    dataset.RTROIObservationsSequence = []
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def _add_structure(dataset: Dataset, number: int, value: int, name: str) -> None:
    dataset.StructureSetROISequence.append(
        _item(
            ROINumber=number,
            ReferencedFrameOfReferenceUID=dataset.FrameOfReferenceUID,
            ROIName=name[:64],
            ROIDescription=description_of(value),
            ROIGenerationAlgorithm="AUTOMATIC",
        )
    )
    code = code_of(name).type
    identified = _item(
        CodeValue=code.value, CodingSchemeDesignator=code.scheme_designator, CodeMeaning=code.meaning
    )
    dataset.RTROIObservationsSequence.append(
        _item(
            ObservationNumber=number,
            ReferencedROINumber=number,
            RTROIIdentificationCodeSequence=[identified],
            RTROIInterpretedType="",
            ROIInterpreter="",
        )
    )


def _item(**fields: Any) -> Dataset:
    item = Dataset()
    for name, value in fields.items():
        setattr(item, name, value)
    return item
