"""The main job on generated patients: nothing to download, nothing to prepare."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unprompted.apps.batch.choices import Job, ModelChoice, SupportChoice, Watcher
from unprompted.apps.batch.records import write_json
from unprompted.apps.batch.run import segment_folder
from unprompted.datasets.synthetic import Synthetic
from unprompted.errors import UsageError
from unprompted.evaluation.files import write_summary
from unprompted.evaluation.folders import evaluate_folders
from unprompted.images import LabelMap, Volume
from unprompted.io.base import read_image, read_labels, write_labels
from unprompted.io.labels import write_label_names
from unprompted.io.nifti import write_volume
from unprompted.io.overlay import comparison_png

MARK = "demo.json"  # a folder with it is ours to write to
SUPPORT_CASES = 3


@dataclass(frozen=True)
class Demonstration:
    """What the demo made.

    Attributes:
        summary: Dice against the truth, as `unprompted.evaluation.summary.summarise` gives it.
        picture: image, truth and prediction side by side.
        folder: where all of it lies.
    """

    summary: Mapping[str, Any]
    picture: Path
    folder: Path


def demonstrate(
    folder: Path, model: ModelChoice, watch: Watcher, patients: Synthetic | None = None
) -> Demonstration:
    """Generate patients, learn from three of them, segment the others, and measure.

    Args:
        folder: a new folder, or one of an earlier demo, which is written anew.
        model: what segments.
        watch: who follows.
        patients: the generated cases; None takes six of one anatomy.

    Raises:
        UsageError: the folder holds something else.
    """
    patients = patients or Synthetic(count=6)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not (folder / MARK).is_file():
        raise UsageError(f"{folder} holds something else than a demo; choose another folder with -o")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / MARK, {"seed": patients.seed, "cases": list(patients.cases())})
    support, queries, masks = folder / "support", folder / "queries", folder / "masks"
    _write_patients(folder, patients, watch)
    watch.say("the same", f"unprompted segment -s {support} -i {queries} -o {masks}")
    run = segment_folder(
        Job(queries, masks, model, SupportChoice(support), overwrite=True, review=True), watch
    )
    run.raise_for_failures()
    found = evaluate_folders(masks, folder / "truth", progress=watch.progress)
    write_summary(folder, found.summary)
    return Demonstration(found.summary, _picture(folder, found.summary), folder)


def _write_patients(folder: Path, patients: Synthetic, watch: Watcher) -> None:
    names = patients.cases()
    for number, name in enumerate(names):
        watch.progress("generating patients", number, len(names))
        volume, labels = patients.load(name)
        if number < SUPPORT_CASES:
            _write(volume, labels, folder / "support" / "images", folder / "support" / "labels")
        else:
            _write(volume, labels, folder / "queries", folder / "truth")
    watch.progress("generating patients", len(names), len(names))
    for place in (folder / "support", folder / "truth"):
        write_label_names(place, patients.classes)
    watch.say("generated", f"{SUPPORT_CASES} labelled patients and {len(names) - SUPPORT_CASES} to segment")


def _write(volume: Volume, labels: LabelMap, images: Path, truths: Path) -> None:
    image = images / f"{volume.name}.nii.gz"
    write_volume(volume, image)
    write_labels(labels, truths / image.name, image)


def _picture(folder: Path, summary: Mapping[str, Any]) -> Path:
    """The first case: image, truth and prediction."""
    name = summary["metric_per_case"][0]["prediction_file"]
    truth, prediction = read_labels(folder / "truth" / name), read_labels(folder / "masks" / name)
    picture = folder / "demo.png"
    comparison_png(read_image(folder / "queries" / name), truth, prediction, picture)
    return picture
