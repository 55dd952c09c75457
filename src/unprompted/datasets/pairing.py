"""Finding the images and labels of a folder, and which belong together."""

import re
from collections.abc import Sequence
from pathlib import Path

from unprompted.datasets.base import CaseFiles
from unprompted.errors import DataRefused
from unprompted.io.base import case_name, suffix_of
from unprompted.io.labels import LABEL_NAMES

_CHANNEL = re.compile(r"_(\d{4})$")
_NOT_IMAGES = (".json", ".csv", ".tsv", ".txt", ".md", ".yaml", ".yml", ".toml", ".pdf", ".zraw", ".raw")


def image_files(folder: Path) -> list[Path]:
    """The files of a folder that a reader knows, sorted by name; hidden and text files are left out.

    Raises:
        DataRefused: the folder holds a file of a type that is not read.
    """
    files = [f for f in folder.iterdir() if f.is_file() and not is_hidden(f)]
    known = sorted((f for f in files if suffix_of(f) is not None), key=lambda f: f.name)
    unknown = sorted(
        f.name
        for f in files
        if suffix_of(f) is None and f.suffix.lower() not in _NOT_IMAGES and f.name != LABEL_NAMES
    )
    if unknown:
        raise DataRefused(
            f"{folder}: files of a type that is not read: {listed(unknown)}; "
            "convert them or move them elsewhere"
        )
    return known


def is_hidden(path: Path) -> bool:
    """Whether a file is the system's own: ``.DS_Store``, macOS ``._`` twins, half-written output."""
    return path.name.startswith(".") or path.name in ("Thumbs.db", "desktop.ini")


def without_channels(files: Sequence[Path]) -> dict[str, Path]:
    """nnU-Net images by case: ``case_0000.nii.gz`` is case ``case``.

    Raises:
        DataRefused: a case has several channels, or a file has no channel number.
    """
    cases: dict[str, list[str]] = {}
    images: dict[str, Path] = {}
    for file in files:
        stem = case_name(file)
        match = _CHANNEL.search(stem)
        if match is None:
            raise DataRefused(
                f"{file}: in the nnU-Net layout an image ends with its channel, {stem}_0000, found none"
            )
        case = stem[: match.start()]
        cases.setdefault(case, []).append(match.group(1))
        images[case] = file
    several = [f"{case} ({', '.join(channels)})" for case, channels in cases.items() if len(channels) > 1]
    if several:
        raise DataRefused(
            f"cases of several channels are not read: {listed(several)}; "
            "keep the one channel that shows the structures best"
        )
    return images


def has_channels(files: Sequence[Path]) -> bool:
    """Whether every file ends with an nnU-Net channel number."""
    return bool(files) and all(_CHANNEL.search(case_name(file)) for file in files)


def by_stem(files: Sequence[Path], ending: str = "") -> dict[str, Path]:
    """Files by case name, a common ending of the name taken off.

    Raises:
        DataRefused: two files are of one case.
    """
    found: dict[str, Path] = {}
    for file in files:
        stem = case_name(file).removesuffix(ending)
        if stem in found:
            raise DataRefused(
                f"case {stem} is there twice: {found[stem].name} and {file.name}; keep one of them"
            )
        found[stem] = file
    return found


def paired(
    images: dict[str, Path], labels: dict[str, Path], folder: Path, ignore: int | None = None
) -> list[CaseFiles]:
    """Cases of images and labels with equal names.

    Raises:
        DataRefused: images have no label, or labels no image; all are named.
    """
    without_label = sorted(set(images) - set(labels))
    without_image = sorted(set(labels) - set(images))
    if without_label:
        raise DataRefused(
            f"{folder}: {len(without_label)} of {len(images)} images have no label of the same name: "
            f"{listed(without_label)}; add the labels or move these images elsewhere"
        )
    if without_image:
        raise DataRefused(
            f"{folder}: {len(without_image)} of {len(labels)} labels have no image of the same name: "
            f"{listed(without_image)}; add the images or move these labels elsewhere"
        )
    return [CaseFiles(name, images[name], labels[name], ignore) for name in sorted(images)]


def listed(names: Sequence[str], most: int = 10) -> str:
    """Names in a row, cut off after some with their number."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
