"""The forms in which label maps are written, by the words of ``--format``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from unprompted.errors import UnpromptedError, UsageError
from unprompted.images import LabelMap
from unprompted.io import base

AUTO = "auto"  # the format of the image
SegKind = Literal["BINARY", "FRACTIONAL", "LABELMAP"]
FORMS: Mapping[str, str] = {  # word to the ending of its files
    AUTO: "",
    "nifti": ".nii.gz",
    "dicom-seg": ".dcm",
    "dicom-labelmap": ".dcm",
    "dicom-fractional": ".dcm",
    "dicom-rtstruct": ".dcm",
}
_OBJECTS = (".dcm",)
_SEG_KINDS: Mapping[str, SegKind] = {
    "dicom-seg": "BINARY",
    "dicom-labelmap": "LABELMAP",
    "dicom-fractional": "FRACTIONAL",
}


def checked_form(word: str) -> str:
    """The word itself.

    Raises:
        UsageError: no form is called so.
    """
    if word not in FORMS:
        raise UsageError(f"no output format is called {word!r}; known: {', '.join(FORMS)}")
    return word


def form_of(path: Path) -> str:
    """The form of a label map that lies at a path, for others to be written in its place.

    A FRACTIONAL object counts as BINARY: how sure anybody is of what was corrected is not known.
    """
    if not path.is_file() or base.suffix_of(path) not in _OBJECTS:
        return AUTO
    from unprompted.io.dicom.series import RTSTRUCT_CLASS, dataset_of

    header = dataset_of(path, pixels=False)
    if header.SOPClassUID == RTSTRUCT_CLASS:
        return "dicom-rtstruct"
    return "dicom-labelmap" if header.get("SegmentationType") == "LABELMAP" else "dicom-seg"


def result_path(folder: Path, name: str, like: Path, form: str = AUTO) -> Path:
    """Where the label map of a case goes.

    Args:
        folder: the output folder.
        name: the case name.
        like: the query image.
        form: a word of `FORMS`.
    """
    return (
        base.result_path(folder, name, like)
        if form == AUTO
        else folder / (base.checked_name(name, like) + FORMS[form])
    )


def write_result(
    labels: LabelMap, confidence: NDArray[Any] | None, path: Path, like: Path, form: str = AUTO
) -> None:
    """Write a label map in a form, on the stored grid of the image `like`.

    Args:
        labels: the label map.
        confidence: in 0..1, of the shape of the labels: the probability of each; DICOM FRACTIONAL needs it.
        path: as `result_path` gives it.
        like: the query image.
        form: a word of `FORMS`.

    Raises:
        UnpromptedError: as `unprompted.io.base.write_labels` says, or the form needs a DICOM image.
    """
    if form not in _SEG_KINDS and form != "dicom-rtstruct":
        base.write_labels(labels, path, like)
        return
    from unprompted.io.dicom.rtstruct_writing import write_rtstruct
    from unprompted.io.dicom.seg_writing import write_seg

    try:
        if form in _SEG_KINDS:
            write_seg(labels, path, like, _SEG_KINDS[form], confidence)
        else:
            write_rtstruct(labels, path, like)
    except UnpromptedError as error:
        raise type(error)(f"{path.name}: {error}") from error
