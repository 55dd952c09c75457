"""HDF5 files with the arrays ``image`` and ``label``, as in the TransUNet Synapse test volumes."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from unprompted.images import LabelMap, Volume
from unprompted.io.atomic import replacing
from unprompted.io.npz import Arrays, arrays_to_write, labels_from, picked, volume_from


class H5:
    """Reads and writes HDF5; ``affine`` and ``spacing`` mean what they mean in `Npz`."""

    suffixes = (".npy.h5", ".h5", ".hdf5")
    holds_labels = True

    def read(self, path: Path) -> Volume:
        """The array ``image`` in canonical order."""
        return volume_from(_arrays(path, ("image",)), path)

    def read_labels(self, path: Path) -> LabelMap:
        """The array ``label`` in canonical order."""
        return labels_from(_arrays(path, ("label",)), path)

    def result_suffix(self, like: Path) -> str:
        """The ending of the image."""
        return like.suffix.lower()

    def write_labels(self, labels: LabelMap, path: Path, like: Path) -> None:
        """Write ``label`` in the array order of `like`, and its geometry if it has one."""
        known = like.name.lower().endswith(self.suffixes)
        arrays = arrays_to_write(labels, _arrays(like, ("image",)) if known else None, like)
        with replacing(path) as partial, h5py.File(partial, "w") as file:
            for name, array in arrays.items():
                file.create_dataset(
                    name, data=array, compression="gzip" if array.ndim else None, track_times=False
                )


def _arrays(path: Path, wanted: tuple[str, ...]) -> Arrays:
    def whole(dataset: Any) -> Any:
        return np.asarray(dataset[()])

    with h5py.File(path, "r") as file:
        return picked(file, wanted, path, whole)
