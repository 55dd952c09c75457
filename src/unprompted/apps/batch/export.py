"""Results of a run handed over: to nnU-Net, as BIDS derivatives, to 3D Slicer and to ITK-SNAP."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from unprompted import __version__
from unprompted.apps.batch.choices import Watcher
from unprompted.apps.batch.records import CASES, RUN, write_json
from unprompted.datasets.base import CaseFiles
from unprompted.datasets.folder import load_case, recognise
from unprompted.datasets.pairing import listed
from unprompted.errors import DataRefused, UsageError
from unprompted.images import LabelMap, Volume
from unprompted.io.base import read_labels, write_labels
from unprompted.io.colour_tables import bids_table, itksnap_table, slicer_table
from unprompted.io.labels import read_label_names
from unprompted.io.nifti import write_volume
from unprompted.prediction import REVIEW_BELOW

_NIFTI = ".nii.gz"


@dataclass(frozen=True, eq=False)
class Results:
    """The finished cases of an output folder.

    Attributes:
        folder: the output folder.
        classes: label value to name.
        outputs: case name to its label map.
        predicted: case name to its predicted Dice, None where that is not known.
        images: case name to its image; empty where no images were given.
        is_ct: whether images were taken as CT.
    """

    folder: Path
    classes: Mapping[int, str]
    outputs: Mapping[str, Path]
    predicted: Mapping[str, float | None]
    images: Mapping[str, CaseFiles]
    is_ct: bool

    def labels(self, case: str) -> LabelMap:
        """The label map of a case; an object of DICOM lies on the grid of its image where that is known."""
        path = self.outputs[case]
        grid = self.volume(case).grid if case in self.images and not path.name.endswith(_NIFTI) else None
        return replace(read_labels(path, grid), classes=dict(self.classes))

    def volume(self, case: str) -> Volume:
        """The image of a case."""
        return load_case(self.images[case])[0]


def export(
    folder: Path, to: str, target: Path, images: Path | None, support: Path | None, watch: Watcher
) -> None:
    """Write the results of a run in the layout of another program.

    Args:
        folder: an output folder of ``unprompted segment``.
        to: a name of `TARGETS`.
        target: a folder that is empty or not there.
        images: the images that were segmented; nnU-Net needs them.
        support: the labelled cases; nnU-Net gets them as what they are, labelled by people.
        watch: is told what was done.

    Raises:
        UsageError: the target is unknown or not empty, or images are missing.
        DataRefused: the folder holds no finished case, or an image is of a kind not taken there.
    """
    if to not in TARGETS:
        raise UsageError(f"no export is called {to!r}; known: {', '.join(TARGETS)}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is not empty; an export goes to a folder of its own")
    results = _results_of(folder, images)
    target.mkdir(parents=True, exist_ok=True)
    TARGETS[to](results, target, support, watch)
    watch.say("exported", f"{len(results.outputs)} cases to {target}")


def _results_of(folder: Path, images: Path | None) -> Results:
    records = {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (folder / CASES).glob("*.json")
    }
    if not records or not (folder / RUN).is_file():
        raise DataRefused(f"{folder}: holds no finished case of `unprompted segment`")
    configuration = json.loads((folder / RUN).read_text(encoding="utf-8"))["configuration"]
    classes = read_label_names(folder) or {int(v): name for v, name in configuration["classes"].items()}
    outputs = {name: folder / record["output"] for name, record in sorted(records.items())}
    videos = [name for name, path in outputs.items() if path.is_dir()]
    if videos:
        raise DataRefused(f"{folder}: results of videos are masks and films already: {listed(videos)}")
    known = {case.name: case for case in recognise(images, need_labels=False).cases} if images else {}
    predicted = {name: _mean_dice(record) for name, record in records.items()}
    is_ct = configuration.get("intensity", {}).get("kind") == "ct"
    return Results(folder, classes, outputs, predicted, known, is_ct)


def _mean_dice(record: Mapping[str, Any]) -> float | None:
    told = [entry["dice"] for entry in record.get("predicted_dice", {}).values() if entry["dice"] is not None]
    return round(float(np.mean(told)), 4) if told else None


def _to_slicer(results: Results, target: Path, support: Path | None, watch: Watcher) -> None:
    """``CASE.seg.nrrd``, in which Slicer finds names and colours, and ``labels.ctbl``."""
    for case in results.outputs:
        _write(results, case, target / f"{case}.seg.nrrd")
    (target / "labels.ctbl").write_text(slicer_table(results.classes), encoding="utf-8")


def _to_itksnap(results: Results, target: Path, support: Path | None, watch: Watcher) -> None:
    """``CASE.nii.gz`` and ``labels.txt``, for Segmentation > Import Label Descriptions."""
    for case in results.outputs:
        _write(results, case, target / f"{case}{_NIFTI}")
    (target / "labels.txt").write_text(itksnap_table(results.classes), encoding="utf-8")


def _to_bids(results: Results, target: Path, support: Path | None, watch: Watcher) -> None:
    """A derivatives dataset: ``sub-X/anat/sub-X_space-orig_desc-unprompted_dseg.nii.gz`` with its sidecar."""
    generated = {"Name": "unprompted", "Version": __version__}
    description = {
        "Name": "Segmentations by unprompted",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [generated],
    }
    write_json(target / "dataset_description.json", description)
    for case, entities in _bids_names(list(results.outputs)).items():
        parts = entities.split("_")
        place = target.joinpath(*[part for part in parts if part.startswith(("sub-", "ses-"))], "anat")
        stem = f"{entities}_space-orig_desc-unprompted_dseg"
        _write(results, case, place / f"{stem}{_NIFTI}")
        (place / f"{stem}.tsv").write_text(bids_table(results.classes), encoding="utf-8")
        image = results.images.get(case)
        write_json(
            place / f"{stem}.json",
            {
                "Sources": [f"bids:raw:{image.image.name}"] if image else [],
                "SpatialReference": "orig",
                "Manual": False,
                "PredictedDice": results.predicted[case],
            },
        )


def _bids_names(cases: Sequence[str]) -> dict[str, str]:
    """Case name to entities: those of a BIDS name without its suffix, else a subject."""
    names = {}
    for case in cases:
        parts = case.split("_")
        if re.fullmatch(r"sub-[A-Za-z0-9]+", parts[0]):
            names[case] = "_".join(part for part in parts if re.fullmatch(r"[a-z]+-[A-Za-z0-9]+", part))
        else:
            names[case] = f"sub-{re.sub('[^A-Za-z0-9]', '', case) or 'case'}"
    twice = sorted(case for case, name in names.items() if list(names.values()).count(name) > 1)
    if twice:
        raise DataRefused(f"BIDS names hold letters and digits only, so these would be one: {listed(twice)}")
    return names


def _to_nnunet(results: Results, target: Path, support: Path | None, watch: Watcher) -> None:
    """A raw dataset: labelled cases as they are, predicted ones marked as pseudo-labelled.

    Cases that someone should look at first are left out.
    """
    missing = [case for case in results.outputs if case not in results.images]
    if missing:
        raise UsageError(f"nnU-Net needs the images, give them with -i; there is none for {listed(missing)}")
    numbers = {value: number for number, value in enumerate(sorted(results.classes), start=1)}
    manual = _write_labelled(results, target, support, numbers) if support else []
    pseudo: dict[str, float | None] = {}
    for case, dice in sorted(results.predicted.items()):
        if dice is None or dice >= REVIEW_BELOW:
            name = f"{case}_pseudo" if case in manual else case
            _write_pair(target, name, results.volume(case), results.labels(case), numbers)
            pseudo[name] = dice
    doubtful = [case for case, dice in results.predicted.items() if dice is not None and dice < REVIEW_BELOW]
    if doubtful:
        watch.say(
            "left out", f"predicted Dice below {REVIEW_BELOW:g}, look at them first: {listed(doubtful)}"
        )
    if not manual and not pseudo:
        raise DataRefused("no case is left to hand over: all look wrong, and no labelled cases were given")
    rows = [f"{name}\tmanual\t" for name in manual]
    rows += [f"{name}\tpseudo\t{'' if dice is None else dice}" for name, dice in pseudo.items()]
    text = "\n".join(["case\tlabels\tpredicted_dice", *rows]) + "\n"
    (target / "cases.tsv").write_text(text, encoding="utf-8")
    description = {
        "channel_names": {"0": "CT" if results.is_ct else "image"},
        "labels": {"background": 0} | {results.classes[value]: n for value, n in numbers.items()},
        "numTraining": len(rows),
        "file_ending": _NIFTI,
        "pseudo_labelled": list(pseudo),
    }
    write_json(target / "dataset.json", description)


def _write_labelled(results: Results, target: Path, support: Path, numbers: Mapping[int, int]) -> list[str]:
    """Write the cases that people labelled; their names."""
    names = []
    for case in recognise(support, need_labels=True).cases:
        volume, labels = load_case(case, dict(results.classes))
        assert labels is not None
        _write_pair(target, case.name, volume, labels, numbers)
        names.append(case.name)
    return names


def _write_pair(
    target: Path, case: str, volume: Volume, labels: LabelMap, numbers: Mapping[int, int]
) -> None:
    """An image and its labels on one grid, the labels numbered without a gap as nnU-Net wants them."""
    if volume.axis == "t" or volume.is_rgb:
        raise DataRefused(f"{case}: only volumes of one channel are handed over to nnU-Net")
    table = np.zeros(
        max(*numbers, int(labels.labels.max())) + 1, np.uint8 if len(numbers) < 256 else np.uint16
    )
    table[list(numbers)] = list(numbers.values())
    values: Any = table[labels.labels]
    image = target / "imagesTr" / f"{case}_0000{_NIFTI}"
    write_volume(volume, image)
    write_labels(LabelMap(values, labels.grid), target / "labelsTr" / f"{case}{_NIFTI}", image)


def _write(results: Results, case: str, path: Path) -> None:
    """A label map in another format, with the header of its file where the format stays the same."""
    write_labels(results.labels(case), path, results.outputs[case])


Exporter = Callable[[Results, Path, Path | None, Watcher], None]
TARGETS: Mapping[str, Exporter] = {  # a target is called as its function
    write.__name__.removeprefix("_to_"): write for write in (_to_nnunet, _to_bids, _to_slicer, _to_itksnap)
}
