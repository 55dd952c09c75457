"""nnU-Net itself, driven through its own commands; it is an extra of this package."""

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from unprompted.errors import UnpromptedError, UsageError
from unprompted.images import LabelMap, Volume
from unprompted.peers.base import Cases, Progress, TrainedPeer, label_map, only_classes

_COMMANDS = ("nnUNetv2_plan_and_preprocess", "nnUNetv2_train", "nnUNetv2_predict")
_NUMBER, _NAME = 901, "Dataset901_Support"
_FOLDS = 5  # of its cross-validation; with fewer cases it cannot split


@dataclass(frozen=True)
class NnUNet:
    """nnU-Net v2 (Isensee et al. 2021) on the support alone.

    Trained on fold ``all`` where there are fewer than five volumes, since its cross-validation then
    fails, and on fold 0 otherwise.

    Attributes:
        epochs: one of the trainers it ships: 1, 5, 10, 20, 50, 100, 250 or more; 0 for its usual 1000.
        configuration: "3d_fullres" or "2d".
        device: "cpu", "cuda" or "mps".
        processes: for its preprocessing and export.
    """

    epochs: int = 10
    configuration: str = "3d_fullres"
    device: str = "cpu"
    processes: int = 1

    def fit(self, cases: Cases, classes: dict[int, str], seed: int, progress: Progress) -> TrainedPeer:
        """Write its dataset, preprocess and train.

        Raises:
            UsageError: nnU-Net is not installed, or the support holds pictures or videos.
            UnpromptedError: one of its commands failed.
        """
        missing = [name for name in _COMMANDS if shutil.which(name) is None]
        if missing:
            raise UsageError(
                f"nnU-Net is not installed ({missing[0]} is not on the PATH); "
                'pip install "unprompted[nnunet]", or leave this peer out'
            )
        if any(volume.axis == "t" or volume.is_rgb or volume.grid.shape[0] == 1 for volume, _ in cases):
            raise UsageError("nnU-Net is given volumes of one channel here; leave it out for this dataset")
        keeper = tempfile.TemporaryDirectory(prefix="unprompted-nnunet-")
        home = Path(keeper.name)
        _write_dataset(home / "raw" / _NAME, cases, classes)
        fold = "all" if len(cases) < _FOLDS else "0"
        work = str(self.processes)
        progress("nnU-Net", 0, 2)
        _call(home, _COMMANDS[0], "-d", str(_NUMBER), "-c", self.configuration, "-np", work, "-npfp", work)
        progress("nnU-Net", 1, 2)
        trainer = ("-tr", self._trainer)
        _call(home, _COMMANDS[1], str(_NUMBER), self.configuration, fold, *trainer, "-device", self.device)

        def segment(volume: Volume) -> LabelMap:
            asked, told = home / "asked", home / "told"
            for folder in (asked, told):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
            _write(volume.whole, volume, asked / "query_0000.nii.gz")
            places = ("-i", str(asked), "-o", str(told), "-d", str(_NUMBER), "-c", self.configuration)
            last = ("-chk", "checkpoint_final.pth", "-device", self.device, "-npp", work, "-nps", work)
            _call(home, _COMMANDS[2], *places, "-f", fold, *trainer, *last)
            stored: Any = nib.load(told / "query.nii.gz")
            found = np.asarray(stored.dataobj).transpose(2, 1, 0)
            assert keeper  # its folder lives as long as this function
            return label_map(found.astype(np.int64), volume, classes)

        return TrainedPeer(segment, {"fold": fold, "trainer": self._trainer})

    @property
    def _trainer(self) -> str:
        if not self.epochs:
            return "nnUNetTrainer"
        return f"nnUNetTrainer_{self.epochs}epoch{'' if self.epochs == 1 else 's'}"


def _write_dataset(folder: Path, cases: Cases, classes: dict[int, str]) -> None:
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for number, (volume, labels) in enumerate(cases):
        _write(volume.whole, volume, folder / "imagesTr" / f"support{number}_0000.nii.gz")
        numbers = only_classes(labels.labels, classes).astype(np.uint8)
        _write(numbers, volume, folder / "labelsTr" / f"support{number}.nii.gz")
    description = {
        "channel_names": {"0": "CT" if _is_ct(cases) else "image"},
        "labels": {"background": 0} | {name: k for k, name in enumerate(classes.values(), 1)},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")


def _is_ct(cases: Cases) -> bool:
    """Hounsfield units: air is far below anything an MR image holds."""
    return all(np.percentile(volume.whole, 1) < -100 for volume, _ in cases)


def _write(array: NDArray[np.generic], volume: Volume, path: Path) -> None:
    """With the columns first, as NIfTI counts; the affine's columns follow."""
    affine = volume.grid.affine[:, [2, 1, 0, 3]]
    nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), affine), path)


def _call(home: Path, *words: str) -> None:
    places = {f"nnUNet_{name}": str(home / name) for name in ("raw", "preprocessed", "results")}
    ended = subprocess.run(words, env=os.environ | places, capture_output=True, encoding="utf-8", check=False)
    if ended.returncode:
        last = " ".join((ended.stderr or ended.stdout).split())[-400:]
        raise UnpromptedError(f"{words[0]} ended with {ended.returncode}: {last}")
