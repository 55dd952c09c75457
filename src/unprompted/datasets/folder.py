"""The user's own images: folder layouts recognised as they are, nothing is converted.

nnU-Net        imagesTr, labelsTr, imagesTs, dataset.json; case_0000.nii.gz
MSD            the same folders, one file a case, labels as {"1": "liver"}
pairs          images + labels, or images + masks, with equal names
suffixes       case_img.* + case_label.* in one folder
sequences      frames + masks, in one folder or in one folder a sequence
archives       npz or h5 files that hold image and label
images         images only, one case a file
DICOM          series in folders, with SEG or RTSTRUCT objects as labels
file           a single file
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from unprompted.datasets.base import CaseFiles, FolderLayout
from unprompted.datasets.binary_masks import noting_binary_masks
from unprompted.datasets.description import read_description
from unprompted.datasets.dicom import (
    dicom_series,
    is_dicom_source,
    is_label_object,
    numbered_by_name,
    refuse_loose_slices,
    with_names_of_objects,
)
from unprompted.datasets.pairing import (
    by_stem,
    has_channels,
    image_files,
    is_hidden,
    listed,
    paired,
    without_channels,
)
from unprompted.errors import DataRefused, UnreadableFile
from unprompted.images import LabelMap, Volume
from unprompted.io.base import case_name, holds_labels, read_image, read_labels, refusing
from unprompted.io.labels import read_label_names
from unprompted.io.raster import Raster
from unprompted.io.video import frame_files, frame_names, read_some_labels

_WANTED = (
    "give a folder with images/ and labels/ (or masks/), an nnU-Net or MSD dataset, files named "
    "case_img.* and case_label.*, or SEQ/frames/ and SEQ/masks/"
)
_LABEL_FOLDERS = ("labels", "masks")
_IMG, _LABEL = "_img", "_label"


def recognise(path: Path, need_labels: bool, series: str | None = None) -> FolderLayout:
    """What lies at a path, as cases.

    Args:
        path: a folder of one of the layouts above, or a file.
        need_labels: True for a support or an evaluation: every case then has labels. False for
            queries: labels are left out even where they are there.
        series: which of several DICOM series: its number, UID, modality or a part of its description.

    Raises:
        UnreadableFile: there is nothing at the path.
        DataRefused: the folder is empty or of no known layout, images and labels do not match, or a
            case is there twice.
    """
    if not path.exists():
        raise UnreadableFile(f"{path}: there is no such file or folder")
    if path.is_file():
        layout = _dicom(path, need_labels, series) or _single_file(path, need_labels)
    else:
        recognisers: tuple[Callable[[Path, bool], FolderLayout | None], ...] = (
            _decathlon_or_nnunet,
            _plain_pairs,
            _sequences,
            partial(_dicom, series=series),
            _named_by_suffix,
            _flat,
        )
        found = (recogniser(path, need_labels) for recogniser in recognisers)
        first = next((layout for layout in found if layout is not None), None)
        if first is None:
            raise DataRefused(_nothing_found(path))
        layout = first
    return with_names_of_objects(noting_binary_masks(layout)) if need_labels else layout


def load_case(files: CaseFiles, classes: dict[int, str] | None = None) -> tuple[Volume, LabelMap | None]:
    """The image of a case and its labels, if it has any.

    Args:
        files: as `recognise` gives them.
        classes: names for the label map; None keeps those the label file carries.

    Raises:
        DataRefused: a file cannot be used; the message names it.
    """
    volume = replace(read_image(files.image), name=files.name)
    if files.labels is None:
        return volume, None
    if is_label_object(files.labels):
        labels = numbered_by_name(read_labels(files.labels, volume.grid), classes)
    elif volume.axis == "t":
        labels = read_some_labels(files.labels, frame_names(files.image, volume.grid.shape[0]))
    else:
        labels = read_labels(files.labels)
    if classes is not None:
        labels = replace(labels, classes=classes)
    return volume, labels if files.ignore is None else without_ignored(labels, files.ignore)


def without_ignored(labels: LabelMap, ignore: int) -> LabelMap:
    """The labels with slices that hold the ignore value marked as unlabelled."""
    ignored = labels.labels == ignore
    labelled = ~ignored.any(axis=(1, 2))
    if labels.labelled is not None:
        labelled &= labels.labelled
    kept = labels.labels.copy()
    kept[ignored] = 0
    return replace(labels, labels=kept, labelled=None if labelled.all() else labelled)


def _single_file(path: Path, need_labels: bool) -> FolderLayout:
    if need_labels and not holds_labels(path):
        raise DataRefused(f"{path}: a single image has no labels beside it; {_WANTED}")
    case = CaseFiles(case_name(path), path, path if need_labels else None)
    return FolderLayout("file", (case,), None, f"one file, {path.name}")


def _decathlon_or_nnunet(path: Path, need_labels: bool) -> FolderLayout | None:
    training = path / "imagesTr"
    if not training.is_dir() and not (path / "imagesTs").is_dir():
        return None
    description = read_description(path)
    folder = path / "imagesTs"
    if need_labels or not _has_images(folder):
        folder = training
    files = image_files(folder) if folder.is_dir() else []
    if not files:
        raise DataRefused(f"{folder}: holds no image")
    labels = by_stem(image_files(path / "labelsTr")) if (path / "labelsTr").is_dir() else {}
    channels = _has_channel_names(path, files)
    images = without_channels(files) if channels else by_stem(files)
    kind = "nnU-Net" if channels or (description and description.kind == "nnU-Net") else "MSD"
    ignore = description.ignore if description else None
    if need_labels:
        cases = paired(images, labels, path, ignore)
    else:
        cases = [CaseFiles(name, images[name]) for name in sorted(images)]
    classes = description.classes if description else None
    remarks = [f"images of {folder.name}"] if not need_labels else []
    if description is None:
        remarks.append("no dataset.json, so classes have no names")
    elif description.classes is None:
        remarks.append("regions are not used, classes are the label values")
    if need_labels and ignore is not None:
        remarks.append(f"slices with the ignore label {ignore} count as unlabelled")
    return _layout(kind, cases, classes, need_labels, remarks)


def _has_channel_names(root: Path, files: list[Path]) -> bool:
    """Whether image names end with an nnU-Net channel; ``btcv_0040`` alone could be either.

    The training set settles it: there the label of ``a_0000`` is called ``a``.
    """
    if not has_channels(files):
        return False
    training, labels = root / "imagesTr", root / "labelsTr"
    if training.is_dir() and labels.is_dir():
        named = {case_name(file) for file in image_files(labels)}
        images = image_files(training)
        if images and named:
            return has_channels(images) and not any(case_name(file) in named for file in images)
    description = read_description(root)
    if description is not None:
        return description.kind == "nnU-Net"
    return all(case_name(file).endswith("_0000") for file in files)


def _plain_pairs(path: Path, need_labels: bool) -> FolderLayout | None:
    if not (path / "images").is_dir():
        return None
    folders = [name for name in _LABEL_FOLDERS if (path / name).is_dir()]
    images = by_stem(_images_and_sequences(path / "images"))
    if not images:
        raise DataRefused(f"{path / 'images'}: holds no image")
    if not need_labels:
        cases = [CaseFiles(name, images[name]) for name in sorted(images)]
        return _layout("pairs", cases, read_label_names(path), need_labels, ["images of images/"])
    if len(folders) != 1:
        found = "both labels/ and masks/" if folders else "neither labels/ nor masks/"
        raise DataRefused(f"{path}: beside images/ there is {found}; exactly one of them holds the labels")
    labels = by_stem(_images_and_sequences(path / folders[0]))
    cases = paired(images, labels, path)
    return _layout("pairs", cases, read_label_names(path), need_labels, [f"images/ and {folders[0]}/"])


def _sequences(path: Path, need_labels: bool) -> FolderLayout | None:
    if path.name == "frames" and not need_labels and image_files(path):
        case = CaseFiles(path.parent.name, path)
        return _layout("sequences", [case], None, need_labels, [_frames(len(frame_files(path)))])
    own = (path / "frames").is_dir()
    roots = [path] if own else sorted(f for f in path.iterdir() if (f / "frames").is_dir())
    if not roots:
        return None
    beside = [] if own else [f.name for f in path.iterdir() if f.is_dir() and f not in roots]
    unmasked = [root.name for root in roots if not (root / "masks").is_dir()]
    if need_labels and unmasked:
        raise DataRefused(f"{path}: sequences without a masks/ folder: {listed(unmasked)}")
    cases, frames, masks = [], 0, 0
    for root in roots:
        frames += len(frame_files(root / "frames"))
        masks += len(frame_files(root / "masks")) if need_labels else 0
        cases.append(CaseFiles(root.resolve().name, root / "frames", root / "masks" if need_labels else None))
    remarks = [f"{masks} of {frames} frames have a mask" if need_labels else _frames(frames)]
    visible = sorted(name for name in beside if not name.startswith("."))
    if visible:
        remarks.append(f"left out, without frames/: {listed(visible)}")
    return _layout("sequences", cases, read_label_names(path), need_labels, remarks)


def _named_by_suffix(path: Path, need_labels: bool) -> FolderLayout | None:
    files = image_files(path)
    images = [file for file in files if case_name(file).endswith(_IMG)]
    labels = [file for file in files if case_name(file).endswith(_LABEL)]
    if not images:
        return None
    strangers = sorted(file.name for file in set(files) - set(images) - set(labels))
    if strangers:
        raise DataRefused(f"{path}: beside *_img and *_label there are {listed(strangers)}")
    by_case = by_stem(images, _IMG)
    if need_labels:
        cases = paired(by_case, by_stem(labels, _LABEL), path)
    else:
        cases = [CaseFiles(name, by_case[name]) for name in sorted(by_case)]
    return _layout("suffixes", cases, read_label_names(path), need_labels, ["*_img and *_label"])


def _dicom(path: Path, need_labels: bool, series: str | None) -> FolderLayout | None:
    if not is_dicom_source(path):
        return None
    with refusing(path):  # a damaged value of a header is found where it is used
        return dicom_series(path, need_labels, series)


def _flat(path: Path, need_labels: bool) -> FolderLayout | None:
    files = image_files(path)
    if not files:
        return None
    archives = [file for file in files if holds_labels(file)]
    if need_labels and len(archives) < len(files):
        raise DataRefused(f"{path}: labels are needed and this is a folder of images only; {_WANTED}")
    remarks = []
    if path.name in ("imagesTr", "imagesTs", "imagesVal") and _has_channel_names(path.parent, files):
        images = without_channels(files)
        remarks.append("the nnU-Net ending _0000 is no part of the name")
    else:
        images = by_stem(files)
    cases = [CaseFiles(n, images[n], images[n] if need_labels else None) for n in sorted(images)]
    pictures = [file for file in files if file.suffix.lower() in Raster.suffixes]
    if len(pictures) > 1:
        remarks.append("each picture is a case (a folder named frames/ would be a video)")
    folders = sorted(f.name for f in path.iterdir() if f.is_dir() and not is_hidden(f))
    if folders:
        remarks.append(f"sub-folders left out: {listed(folders)}")
    kind = "archives" if need_labels else "images"
    return _layout(kind, cases, read_label_names(path), need_labels, remarks)


def _frames(count: int) -> str:
    return f"{count} frame{'' if count == 1 else 's'}"


def _has_images(folder: Path) -> bool:
    return folder.is_dir() and bool(image_files(folder))


def _images_and_sequences(folder: Path) -> list[Path]:
    """Files and, for videos, folders of pictures."""
    folders = [f for f in folder.iterdir() if f.is_dir() and not is_hidden(f)]
    files = image_files(folder)
    refuse_loose_slices(files)
    return files + sorted(folders)


def _layout(
    kind: str,
    cases: list[CaseFiles],
    classes: dict[int, str] | None,
    need_labels: bool,
    remarks: list[str],
) -> FolderLayout:
    count = f"{len(cases)} case{'' if len(cases) == 1 else 's'}{' with labels' if need_labels else ''}"
    named = [f"classes {listed(list(classes.values()))}"] if classes and need_labels else []
    return FolderLayout(kind, tuple(cases), classes, ", ".join([f"{kind} layout", count, *named, *remarks]))


def _nothing_found(path: Path) -> str:
    inside = sorted(f.name + "/" * f.is_dir() for f in path.iterdir() if not is_hidden(f))
    if not inside:
        return f"{path}: the folder is empty; {_WANTED}"
    return f"{path}: no known layout; it holds {listed(inside)}; {_WANTED}"
