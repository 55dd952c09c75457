"""The Synapse CT as TransUNet (arXiv:2102.04306) prepared it: other classes, 18 and 12 cases, no spacing."""

from pathlib import Path

import numpy as np

from unprompted.datasets.base import CaseFiles
from unprompted.datasets.collection import Collection, with_labels
from unprompted.geometry import Grid
from unprompted.images import LabelMap, Volume
from unprompted.io.base import read_image, read_labels

CLASSES = {
    1: "aorta", 2: "gallbladder", 3: "left kidney", 4: "right kidney", 5: "liver", 6: "pancreas",
    7: "spleen", 8: "stomach",
}  # fmt: skip
_TEST = tuple(f"case{n:04d}" for n in (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38))
_CASES = 30
_TRAIN, _VOLUMES = "train_npz", "test_vol_h5"


def synapse_transunet(root: Path, partial: bool = False) -> Collection:
    """Synapse CT in TransUNet's npz and h5 files, 8 organs, 18 cases to train and 12 to test.

    Training cases are slices and are put together here; values are HU from -125 to 275 scaled to 0..1.

    Args:
        root: the folder ``Synapse``.
        partial: take what is there.
    """
    slices = sorted((root / _TRAIN).glob("case[0-9]*_slice[0-9]*.npz"))
    volumes = sorted((root / _VOLUMES).glob("case[0-9]*.npy.h5"))
    files = {name: CaseFiles(name, root / _TRAIN, root / _TRAIN) for name in {f.name[:8] for f in slices}}
    files |= {f.name[:8]: CaseFiles(f.name[:8], f, f) for f in volumes}
    return Collection(
        name="Synapse as in TransUNet",
        root=root,
        classes=CLASSES,
        licence="terms of Synapse project syn3193805, registration needed",
        obtain="prepare BTCV as datasets/README.md of TransUNet says, or ask its authors",
        layout="train_npz/case0005_slice000.npz (18 cases) and test_vol_h5/case0001.npy.h5 (12 cases)",
        files=files,
        expected=_CASES,
        partial=partial,
        test=_TEST,
        read=_read,
    )


def _read(files: CaseFiles) -> tuple[Volume, LabelMap]:
    if not files.image.is_dir():
        return with_labels(files)
    slices = sorted(files.image.glob(f"{files.name}_slice[0-9]*.npz"))
    voxels = np.concatenate([read_image(file).whole for file in slices])
    labels = np.concatenate([read_labels(file).labels for file in slices])
    grid = Grid.without_mm((voxels.shape[0], voxels.shape[1], voxels.shape[2]))
    return Volume(voxels, grid, name=files.name), LabelMap(labels, grid)
