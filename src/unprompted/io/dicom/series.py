"""DICOM files told apart and grouped into series; only headers are read."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID

from unprompted.errors import DataRefused, UnreadableFile, out_of_memory
from unprompted.io.dicom.archive import extracted, is_zip

SUFFIXES = (".dcm", ".dicom", ".ima")
SEG_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # segmentation, label map
RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
_NOT_PICTURES = (  # have rows and columns, and are no image of a patient
    "1.2.840.10008.5.1.4.1.1.481.2",  # dose
    "1.2.840.10008.5.1.4.1.1.30",  # parametric map
    "1.2.840.10008.5.1.4.1.1.66",  # raw data and registrations, all below it
    "1.2.840.10008.5.1.4.1.1.11",  # presentation states
)
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_SHARED = "SharedFunctionalGroupsSequence"  # of enhanced files
_WANTED = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality", "SeriesNumber",
    "SeriesDescription", "ImageType", "Rows", "ImagePositionPatient", "ReferencedSeriesSequence",
    "ReferencedFrameOfReferenceSequence", _SHARED,
]  # fmt: skip
_MOST_FILES = 200_000
_LOOKED_AT = 20  # files of a folder before it is taken to be none of DICOM
Stamp = tuple[Path, int, int]  # a file, its size and the time of its last change


@dataclass(frozen=True)
class Series:
    """The files of one series.

    Attributes:
        uid: Series Instance UID.
        files: sorted by name.
        modality: "CT", "MR", "SEG", ...
        number: Series Number, None where there is none.
        description: Series Description, free text of the scanner or of people.
        frame_of_reference: UID of the space it lies in, "" where there is none.
        sop_class: of its files.
        auxiliary: whether it is a localizer or a screenshot rather than what was to be imaged.
        refers_to: UIDs of the series that label objects were drawn on.
        of_pictures: whether its files are pictures without a place in the patient, such as radiographs.
    """

    uid: str
    files: tuple[Path, ...]
    modality: str
    number: int | None
    description: str
    frame_of_reference: str
    sop_class: str
    auxiliary: bool = False
    refers_to: frozenset[str] = frozenset()
    of_pictures: bool = False

    @property
    def holds_labels(self) -> bool:
        """Whether it is a segmentation or a structure set."""
        return self.sop_class in (*SEG_CLASSES, RTSTRUCT_CLASS)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where its files lie."""
        return tuple(sorted({file.parent for file in self.files}))

    def describe(self) -> str:
        """A few words to choose by; the number is a word for ``--series``."""
        number = "without a number" if self.number is None else f"{self.number}"
        text = f" {self.description!r}" if self.description else ""
        return f"{number}: {self.modality}{text}, {len(self.files)} file{'s'[: len(self.files) != 1]}"

    def is_called(self, word: str) -> bool:
        """Whether a word names it: its UID, number or modality, or a part of its description."""
        small = word.casefold()
        return (
            word in (self.uid, str(self.number))
            or small == self.modality.casefold()
            or (not word.isdecimal() and small in self.description.casefold())
        )


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by its ending, or by the four letters after the preamble."""
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR" or not path.is_file():
        return False
    if path.suffix.lower() in SUFFIXES:
        return True
    if path.suffix and not path.suffix[1:].isdigit():  # names such as IM0001 or 1.2.840.1 have no ending
        return False
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def is_dicom_folder(folder: Path) -> bool:
    """Whether the first files of a folder, or of those inside, are DICOM."""
    for number, file in enumerate(_files_under(folder)):
        if is_dicom(file):
            return True
        if number >= _LOOKED_AT:
            break
    return False


def series_under(folder: Path) -> tuple[Series, ...]:
    """Every series of a folder and of the folders inside, image series and label objects alike.

    Raises:
        DataRefused: there are more files than anybody means to give.
        UnreadableFile: a file that should be DICOM is not.
    """
    found: dict[str, list[tuple[Path, Dataset]]] = defaultdict(list)
    for file in _files_under(folder):
        if is_dicom(file):
            header = header_of(file)
            found[str(header.get("SeriesInstanceUID", "")) or str(file)].append((file, header))
    grouped = (_series(uid, files) for uid, files in found.items())
    return tuple(sorted((s for s in grouped if s is not None), key=lambda s: (s.number or 0, s.uid)))


def series_of(path: Path) -> Series:
    """The series of a file, with the files beside it; or the only image series of a folder or a zip file.

    Raises:
        DataRefused: the folder holds no image series, or several.
        UnreadableFile: the file is no DICOM, or holds no image.
    """
    if path.is_file() and not is_zip(path):
        return _series_of_file(path)
    images = images_among(series_under(extracted(path) if is_zip(path) else path))
    if len(images) != 1:
        raise DataRefused(
            f"{path}: holds {len(images) or 'no'} image series where one is wanted"
            + (f" ({listed_series(images)}); give each a folder of its own" if images else "")
        )
    return images[0]


def images_among(series: Iterable[Series]) -> tuple[Series, ...]:
    """The image series; localizers and screenshots only where there is nothing else."""
    images = [one for one in series if not one.holds_labels]
    main = [one for one in images if not one.auxiliary]
    return tuple(main or images)


def listed_series(series: Sequence[Series], most: int = 12) -> str:
    """Series in a row, to choose from."""
    more = f"; and {len(series) - most} more" if len(series) > most else ""
    return "; ".join(one.describe() for one in series[:most]) + more


def header_of(file: Path) -> Dataset:
    """What is needed to group a file; read once as long as the file stays as it is.

    Raises:
        UnreadableFile: it is no DICOM.
    """
    state = file.stat()
    return _header((file, state.st_size, state.st_mtime_ns))


@lru_cache(maxsize=50_000)
def _header(stamp: Stamp) -> Dataset:
    return dataset_of(stamp[0], pixels=False, only=_WANTED)


def dataset_of(file: Path, pixels: bool = True, only: list[str] | None = None) -> Dataset:
    """A file as pydicom reads it.

    Raises:
        UnreadableFile: it is no DICOM or has no SOP class.
    """
    try:
        dataset = pydicom.dcmread(
            file, stop_before_pixels=not pixels, specific_tags=list(only) if only else None, force=True
        )
    except Exception as error:  # damaged files make pydicom raise anything
        raise out_of_memory(error) or UnreadableFile(f"{file}: cannot be read as DICOM ({error})") from error
    if "SOPClassUID" not in dataset:
        raise UnreadableFile(f"{file}: is no DICOM object, or is cut off in its header")
    return dataset


def _files_under(folder: Path) -> Iterator[Path]:
    count = 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            count += 1
            if count > _MOST_FILES:
                raise DataRefused(
                    f"{folder}: holds more than {_MOST_FILES} files; give a folder further down"
                )
            yield Path(place) / name


def _series_of_file(path: Path) -> Series:
    header = header_of(path)
    uid = header.get("SeriesInstanceUID")
    beside = [f for f in sorted(path.parent.iterdir()) if is_dicom(f)] if uid else []
    same = [(f, header_of(f)) for f in beside if header_of(f).get("SeriesInstanceUID") == uid]
    found = _series(str(uid or path), same or [(path, header)])
    if found is None:
        raise UnreadableFile(f"{path}: holds no image; it is a {header.SOPClassUID.name}")
    return found


def _series(uid: str, files: list[tuple[Path, Dataset]]) -> Series | None:
    """The series of files that share a UID; None where none of them is an image or a label object.

    Raises:
        UnreadableFile: a file is an image by its class and describes none.
    """
    for file, header in files:
        if "Rows" not in header and UID(header.SOPClassUID).name.endswith("Image Storage"):
            raise UnreadableFile(
                f"{file}: is a {UID(header.SOPClassUID).name[:-8]} without pixels; it is cut off"
            )
    kept = [(file, header) for file, header in files if _is_image(header) or _is_label(header)]
    if not kept:
        return None
    header = kept[0][1]
    number = header.get("SeriesNumber")
    return Series(
        uid,
        tuple(file for file, _ in kept),
        str(header.get("Modality", "OT")),
        int(number) if number is not None else None,
        str(header.get("SeriesDescription", "")).strip(),
        str(header.get("FrameOfReferenceUID", "")),
        str(header.SOPClassUID),
        all(_is_auxiliary(one) for _, one in kept),
        _references(header),
        not any("ImagePositionPatient" in one or _SHARED in one for _, one in kept),
    )


def _is_label(header: Dataset) -> bool:
    return str(header.SOPClassUID) in (*SEG_CLASSES, RTSTRUCT_CLASS)


def _is_image(header: Dataset) -> bool:
    kind = str(header.SOPClassUID)
    return "Rows" in header and not any(kind == no or kind.startswith(f"{no}.") for no in _NOT_PICTURES)


def _is_auxiliary(header: Dataset) -> bool:
    kind = str(header.SOPClassUID)
    captured = kind == _SECONDARY_CAPTURE or kind.startswith(f"{_SECONDARY_CAPTURE}.")
    return captured or "LOCALIZER" in [str(word).upper() for word in header.get("ImageType", None) or []]


def _references(header: Dataset) -> frozenset[str]:
    found = {str(item.SeriesInstanceUID) for item in header.get("ReferencedSeriesSequence", [])}
    for space in header.get("ReferencedFrameOfReferenceSequence", []):
        for study in space.get("RTReferencedStudySequence", []):
            for series in study.get("RTReferencedSeriesSequence", []):
                found.add(str(series.get("SeriesInstanceUID", "")))
    return frozenset(found - {""})
