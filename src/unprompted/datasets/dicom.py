"""Folders of DICOM: every image series is a case, and label objects go with the series they were drawn on."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unprompted.datasets.base import CaseFiles, FolderLayout
from unprompted.datasets.pairing import listed
from unprompted.errors import DataRefused, LabelRefused, UsageError
from unprompted.images import LabelMap
from unprompted.io.base import case_name, refusing
from unprompted.io.dicom import labels as objects
from unprompted.io.dicom.archive import extracted, is_zip
from unprompted.io.dicom.series import (
    Series,
    header_of,
    images_among,
    is_dicom,
    is_dicom_folder,
    listed_series,
    series_under,
)
from unprompted.io.labels import read_label_names


def is_dicom_source(path: Path) -> bool:
    """Whether a path is a folder that holds DICOM, or a zip file."""
    return is_zip(path) or (path.is_dir() and is_dicom_folder(path))


def dicom_series(path: Path, need_labels: bool, wanted: str | None = None) -> FolderLayout:
    """The image series of a folder or a zip file as cases.

    Args:
        path: the folder; series may lie in folders inside it.
        need_labels: whether every series needs a label object; series without one are then left out.
        wanted: a word by which to choose among series, see `Series.is_called`.

    Raises:
        DataRefused: there is no image series, or its files are scattered.
        UsageError: no series is called by the word.
        LabelRefused: label objects belong to no series, or to several.
    """
    root, name = (extracted(path), path.stem) if is_zip(path) else (path, path.resolve().name)
    everything = series_under(root)
    images = images_among(everything)
    if not images:
        raise DataRefused(f"{path}: holds no DICOM image series")
    chosen = [one for one in images if wanted is None or one.is_called(wanted)]
    if not chosen:
        raise UsageError(f"no series is called {wanted!r}; there are {listed_series(images)}")
    drawn = _drawn_on(everything, images, root) if need_labels else {}
    if need_labels:
        chosen = [one for one in chosen if one.uid in drawn]
        if not chosen:
            raise DataRefused(f"{path}: holds no SEG or RTSTRUCT object for {listed_series(images)}")
    names = _case_names(chosen, root, name)
    cases = [case for one in chosen for case in _cases_of(one, names[one.uid], drawn.get(one.uid), root)]
    count = f"{len(cases)} case{'s'[: len(cases) != 1]}{' with labels' if need_labels else ''}"
    left = [one for one in everything if not one.holds_labels and one not in chosen]
    remarks = [f"series {listed_series(chosen, 4)}"]
    remarks += [f"left out: {listed_series(left, 4)}"] if left else []
    note = ", ".join(["DICOM layout", count, *remarks])
    return FolderLayout("DICOM", tuple(sorted(cases, key=lambda c: c.name)), read_label_names(root), note)


def refuse_loose_slices(files: Sequence[Path]) -> None:
    """Refuse files of which each would be a case, and which are slices of one series.

    Raises:
        DataRefused: two are of one series.
    """
    seen: dict[str, Path] = {}
    for file in files:
        if is_dicom(file):
            uid = str(header_of(file).get("SeriesInstanceUID", file))
            if uid in seen:
                raise DataRefused(
                    f"{file.parent}: {seen[uid].name} and {file.name} are slices of one DICOM series; put "
                    "each series in a folder of its own, named as the case"
                )
            seen[uid] = file


def is_label_object(path: Path) -> bool:
    """Whether labels are DICOM objects rather than an array of integers."""
    return is_dicom_folder(path) if path.is_dir() else is_dicom(path)


def with_names_of_objects(layout: FolderLayout) -> FolderLayout:
    """A layout whose classes are those of its label objects, numbered alike in all cases.

    Objects number their segments each on their own; names are what they share.

    Raises:
        LabelRefused: some labels are DICOM objects and some are not, and nothing says what classes there are.
    """
    paths = [case.labels for case in layout.cases if case.labels is not None]
    held = [path for path in paths if is_label_object(path)]
    if not held or layout.classes:
        return layout
    if len(held) < len(paths):
        raise LabelRefused(
            "some labels are DICOM objects and some are label maps; name the classes in a labels.json beside "
            'them, {"1": "liver"}'
        )
    names: dict[str, str] = {}
    for path in held:
        with refusing(path):
            found = objects.names_in(path)
        for name in found:
            names.setdefault(name.casefold(), name)
    classes = dict(enumerate((names[key] for key in sorted(names)), start=1))
    return replace(layout, classes=classes, note=f"{layout.note}, classes {listed(list(classes.values()))}")


def numbered_by_name(labels: LabelMap, classes: dict[int, str] | None) -> LabelMap:
    """The labels of an object under the values of a class table, where there is one."""
    return labels if classes is None else objects.renumbered(labels, classes)


def _drawn_on(everything: Sequence[Series], images: Sequence[Series], root: Path) -> dict[str, Path]:
    """Series UID to its label objects: a file, or the folder that holds several of them.

    An object belongs to the series it refers to; where that is not here, to the only one of the same frame
    of reference, or else to the only one nearest to it in the tree of folders.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    for labels in everything:
        if labels.holds_labels:
            for file in labels.files:
                found[_owner(labels, file, images, root).uid].append(file)
    return {uid: _one_path(files) for uid, files in found.items()}


def _owner(labels: Series, file: Path, images: Sequence[Series], root: Path) -> Series:
    named = [image for image in images if image.uid in labels.refers_to]
    space = [
        i for i in images if labels.frame_of_reference and i.frame_of_reference == labels.frame_of_reference
    ]
    for candidates in (named, space, _nearest(file, images, root)):
        if len(candidates) == 1:
            return candidates[0]
    raise LabelRefused(
        f"{file.name}: the {labels.modality} object refers to no series that is here, and "
        f"{len(images)} series could be meant; put it in a folder with its image series"
    )


def _nearest(file: Path, images: Sequence[Series], root: Path) -> list[Series]:
    """The image series under the closest folder above a file that holds any."""
    folder = file.parent
    while True:
        below = [image for image in images if all(f.is_relative_to(folder) for f in image.files)]
        if below or folder == root or folder == folder.parent:
            return below
        folder = folder.parent


def _one_path(files: list[Path]) -> Path:
    if len(files) == 1:
        return files[0]
    folders = {file.parent for file in files}
    if len(folders) == 1 and set(objects.label_objects(next(iter(folders)))) == set(files):
        return next(iter(folders))
    raise LabelRefused(
        f"several label objects belong to one series: {listed(sorted(f.name for f in files))}; keep one, or "
        "put those that belong together in a folder of their own"
    )


def _cases_of(series: Series, name: str, labels: Path | None, root: Path) -> list[CaseFiles]:
    """One case for a volume or a clip, one a file for pictures; a file stands for its series.

    Raises:
        DataRefused: the slices of a volume lie in several folders.
        LabelRefused: one label object belongs to several pictures.
    """
    if series.of_pictures and len(series.files) > 1:
        if labels is not None:
            raise LabelRefused(
                f"{labels.name}: belongs to a series of {len(series.files)} single pictures; give each "
                "picture a folder with its labels"
            )
        return [CaseFiles(f"{name}_{case_name(file)}", file) for file in series.files]
    if len(series.folders) > 1:
        places = [str(folder.relative_to(root)) for folder in series.folders]
        raise DataRefused(
            f"{root}: the series {series.describe()} lies in several folders ({listed(places, 4)}); put its "
            "files in one"
        )
    return [CaseFiles(name, series.files[0], labels)]


def _case_names(series: Sequence[Series], root: Path, root_name: str) -> dict[str, str]:
    """Series UID to case name: names of folders and files, which the user gave; nothing of the patient."""
    names = {one.uid: root_name for one in series}
    if root.resolve().name == root_name:  # else it is unpacked, and folders in it have no names
        parts = {one.uid: one.folders[0].relative_to(root).parts for one in series}
        firsts = [part[:1] for part in parts.values()]
        for one in series:
            own = parts[one.uid]
            if own:
                names[one.uid] = own[0] if firsts.count(own[:1]) == 1 else "_".join(own)
            elif len(one.files) == 1 and len(series) > 1:
                names[one.uid] = case_name(one.files[0])
    return {one.uid: _distinct(one, names) for one in series}


def _distinct(one: Series, names: dict[str, str]) -> str:
    """The name of a series, with its number where another has the same."""
    name = names[one.uid]
    twins = sorted(uid for uid, other in names.items() if other == name)
    if len(twins) == 1:
        return name
    return f"{name}_series-{one.number if one.number is not None else 'x'}-{twins.index(one.uid) + 1}"
