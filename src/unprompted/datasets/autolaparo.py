"""Instruments in laparoscopic hysterectomy: task 3 of AutoLaparo (arXiv:2208.02049)."""

import re
from pathlib import Path

import numpy as np

from unprompted.datasets.base import CaseFiles
from unprompted.datasets.collection import Collection, relabelled
from unprompted.errors import UsageError
from unprompted.geometry import Grid
from unprompted.images import LabelMap, Volume
from unprompted.io.base import read_image, read_labels
from unprompted.io.video import natural_order

_PARTS = tuple(f"instrument {n} {part}" for n in (1, 2, 3, 4) for part in ("manipulator", "shaft"))
_STEP = 20  # masks are grey: 20, 40 … 160 are the parts, 180 is the uterus
_SEQUENCES = 300  # of 6 frames each


def autolaparo(
    root: Path, sequence_pattern: str = "", instruments_only: bool = True, partial: bool = False
) -> Collection:
    """AutoLaparo task 3, 300 sequences of laparoscopy with instrument masks on each frame.

    Args:
        root: the folder with ``imgs`` (JPEG) and ``masks`` (grey PNG of the same name).
        sequence_pattern: regular expression whose match in a frame's name is its sequence. There is no
            default, since the names of the frames are documented nowhere that could be read.
        instruments_only: one class for all instruments; else their eight parts and the uterus.
        partial: take what is there.

    Raises:
        UsageError: no pattern, or one that a frame's name does not match.
    """
    if not sequence_pattern:
        raise UsageError(
            "autolaparo needs sequence_pattern, which finds the sequence in the name of a frame, such as "
            '"^[0-9]+" where frames are called 001_1.jpg'
        )
    sequences: dict[str, list[Path]] = {}
    for frame in sorted((root / "imgs").glob("*.jpg"), key=lambda f: natural_order(f.stem)):
        found = re.search(sequence_pattern, frame.stem)
        if found is None:
            raise UsageError(f"sequence_pattern {sequence_pattern!r} is nowhere in {frame.name}")
        sequences.setdefault(found.group(), []).append(frame)
    names = ("instrument",) if instruments_only else (*_PARTS, "uterus")

    def read(files: CaseFiles) -> tuple[Volume, LabelMap]:
        return _read(files, sequences[files.name], instruments_only)

    return Collection(
        name="AutoLaparo",
        root=root,
        classes=dict(enumerate(names, 1)),
        licence="not for commercial purposes; cite the paper",
        obtain="autolaparo.github.io, request form, task 3",
        layout="imgs/*.jpg and masks/*.png, 1800 of each",
        files={name: CaseFiles(name, root / "imgs", root / "masks") for name in sequences},
        expected=_SEQUENCES,
        partial=partial,
        read=read,
    )


def _read(files: CaseFiles, frames: list[Path], instruments_only: bool) -> tuple[Volume, LabelMap]:
    assert files.labels is not None
    masks = [files.labels / f"{frame.stem}.png" for frame in frames]
    voxels = np.concatenate([read_image(frame).whole for frame in frames])
    stored = np.concatenate([read_labels(mask).labels for mask in masks])
    grid = Grid.without_mm((voxels.shape[0], voxels.shape[1], voxels.shape[2]))
    parts = {_STEP * n: 1 if instruments_only else n for n in range(1, len(_PARTS) + 1)}
    uterus = {_STEP * (len(_PARTS) + 1): 0 if instruments_only else len(_PARTS) + 1}
    return Volume(voxels, grid, "t", files.name), relabelled(LabelMap(stored, grid), parts | uterus)
