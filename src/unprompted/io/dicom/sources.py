"""What a derived object takes over from its series, and identifiers that follow from content."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from unprompted.errors import DataRefused, UnpromptedError, out_of_memory
from unprompted.io.dicom.image import StoredImage
from unprompted.io.dicom.series import dataset_of

_OFTEN_REMOVED = (  # by anonymisation, and needed in a derived object at least as empty
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
_LONGEST_STUDY_ID = 16  # characters the standard allows, and some scanners exceed
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


@contextmanager
def referring_to(like: Path) -> Iterator[None]:
    """Turn what the headers of a series make pydicom and highdicom raise into one refusal.

    Values are parsed where they are used, so a damaged one is met anywhere while an object is made.
    """
    try:
        yield
    except UnpromptedError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise out_of_memory(error) or DataRefused(
            f"{like.name}: its headers are damaged or incomplete, so no DICOM object can refer to it "
            f"({type(error).__name__}: {reason}); choose --format nifti"
        ) from error


def source_headers(image: StoredImage) -> list[Dataset]:
    """The headers of the files of an image, in the order of its frames, with gaps of anonymisation closed.

    Raises:
        DataRefused: a file lacks the UIDs that a derived object refers to.
    """
    headers = [_complete(dataset_of(file, pixels=False), file) for file in image.files]
    spaces = {str(header.get("FrameOfReferenceUID", "")) for header in headers}
    if image.stack is not None and spaces == {""}:
        for header in headers:
            header.FrameOfReferenceUID = stable_uid(headers[:1], "frame of reference")
    return headers


def stable_uid(sources: Sequence[Dataset], *content: Any) -> str:
    """A UID that follows from the series and from content: equal objects are the same object."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(str(source.SOPInstanceUID).encode())
    for part in content:
        digest.update(
            np.ascontiguousarray(part).tobytes() if isinstance(part, np.ndarray) else repr(part).encode()
        )
    return f"2.25.{int(digest.hexdigest()[:32], 16)}"  # 2.25 holds numbers of 128 bits


def date_like(dataset: Dataset, source: Dataset) -> None:
    """Give an object the dates of its series in place of those of the clock."""
    date = source.get("SeriesDate") or source.get("StudyDate") or "19000101"
    time = source.get("SeriesTime") or source.get("StudyTime") or "000000"
    for name in ("ContentDate", "SeriesDate", "StructureSetDate", "InstanceCreationDate"):
        if name in dataset or (name == "ContentDate" and "StructureSetDate" not in dataset):
            setattr(dataset, name, date)
    for name in ("ContentTime", "SeriesTime", "StructureSetTime", "InstanceCreationTime"):
        if name in dataset or (name == "ContentTime" and "StructureSetTime" not in dataset):
            setattr(dataset, name, time)
    for equipment in dataset.get("ContributingEquipmentSequence", []):
        equipment.ContributionDateTime = f"{date}{str(time)[:6]}"


def _complete(header: Dataset, file: Path) -> Dataset:
    missing = [name for name in _NEEDED if not header.get(name)]
    if missing:
        raise DataRefused(f"{file.name}: lacks {', '.join(missing)}, so no DICOM object can refer to it")
    for name in _OFTEN_REMOVED:
        if name not in header:
            setattr(header, name, "")
    header.StudyID = str(header.StudyID)[:_LONGEST_STUDY_ID]
    return header
