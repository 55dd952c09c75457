"""Predictions in one folder measured against references in another, paired by case name."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from unprompted.datasets.base import CaseFiles
from unprompted.datasets.description import read_description
from unprompted.datasets.folder import load_case, recognise, without_ignored
from unprompted.datasets.pairing import by_stem, image_files, listed
from unprompted.errors import DataRefused, UnreadableFile
from unprompted.evaluation.metrics import overlaps
from unprompted.evaluation.physical import DEFAULT_TOLERANCE_MM, has_mm, physical_errors
from unprompted.evaluation.summary import CaseResult, summarise
from unprompted.images import LabelMap
from unprompted.io.base import case_name, holds_labels, read_labels
from unprompted.io.labels import read_label_names
from unprompted.support import chosen_classes

Progress = Callable[[str, float, float], None]
_MASKS = "masks"  # of a video, inside the folder of its name


@dataclass(frozen=True)
class Evaluation:
    """What a comparison of two folders found.

    Attributes:
        summary: all numbers, as `unprompted.evaluation.summary.summarise` gives them.
        notes: what was left out and why, one line each.
    """

    summary: dict[str, Any]
    notes: tuple[str, ...]


def evaluate_folders(
    predictions: Path,
    references: Path,
    wanted: Sequence[str] = (),
    partial: bool = False,
    progress: Progress = lambda what, done, of: None,
    tolerance_mm: float = DEFAULT_TOLERANCE_MM,
    in_mm: bool | None = None,
) -> Evaluation:
    """Dice, IoU and errors in mm of every predicted case.

    Args:
        predictions: label maps, one a case, as `unprompted segment` writes them.
        references: label maps of the same names, or a dataset with labels.
        wanted: names or values of the classes to measure; empty for those of the predictions'
            ``labels.json``, else for all that occur.
        partial: references without a prediction are left out; else they are refused, for a case that
            failed would make the mean better.
        progress: called with how far it is.
        tolerance_mm: of NSD.
        in_mm: whether to measure in mm; None does so where every image has a voxel size.

    Raises:
        DataRefused: a case has no prediction, a file cannot be used, or `in_mm` is True and an image has
            no voxel size.
        GeometryMismatch: prediction and reference of a case lie on different grids.
        UsageError: no such class.
    """
    cases, names = _references(references)
    notes, pairs = _paired(predictions, references, cases, partial)
    own = read_label_names(predictions)
    classes = chosen_classes(own or _values(pairs, names | (own or {})), wanted)
    results, seen = [], set()
    for number, (case, path) in enumerate(pairs):
        progress("evaluating", number, len(pairs))
        reference = _reference_labels(case)
        seen |= {int(value) for value in np.unique(reference.labels)}
        tolerance = tolerance_mm if in_mm is not False and (in_mm or has_mm(reference)) else None
        result = measured(case.name, read_labels(path, reference.grid), reference, classes, tolerance)
        files = path.name, (case.labels or case.image).name
        results.append(replace(result, prediction=files[0], reference=files[1]))
    progress("evaluating", len(pairs), len(pairs))
    without = [result.case for result in results if classes and not result.physical]
    if without and in_mm is not False:
        notes.append(f"nothing is measured in mm: no voxel size in {listed(without)} (or a sheared grid)")
    others = [names.get(value, f"label {value}") for value in sorted(seen - {0} - set(classes))]
    if others:
        notes.append(f"in the references but not measured: {listed(others)}")
    return Evaluation(summarise(results, classes, None if without else tolerance_mm), tuple(notes))


def measured(
    case: str,
    prediction: LabelMap,
    reference: LabelMap,
    classes: Mapping[int, str],
    tolerance_mm: float | None = None,
) -> CaseResult:
    """One case against its reference.

    Args:
        case: its name.
        prediction: on the grid of the reference.
        reference: the truth.
        classes: label values to measure.
        tolerance_mm: of NSD; None measures nothing in mm.

    Raises:
        GeometryMismatch: prediction and reference lie on different grids.
        DataRefused: the images have no voxel size in mm, and a tolerance is given.
    """
    try:
        common = overlaps(prediction, reference, classes)
        if tolerance_mm is None:
            return CaseResult(case, common)
        errors = physical_errors(prediction, reference, classes, tolerance_mm)
        return CaseResult(case, common, physical=errors)
    except DataRefused as error:
        raise type(error)(f"{case}: {error}") from error


def _references(path: Path) -> tuple[list[CaseFiles], dict[int, str]]:
    """The reference cases, and the class names that lie with them."""
    files = image_files(path) if path.is_dir() else []
    is_dataset = any(holds_labels(file) or case_name(file).endswith("_img") for file in files)
    if not files or is_dataset:
        layout = recognise(path, need_labels=True)
        return list(layout.cases), layout.classes or {}
    description = read_description(path.parent) if path.name.startswith("labels") else None
    ignore = description.ignore if description else None
    names = read_label_names(path) or (description.classes if description else None) or {}
    return [CaseFiles(name, file, file, ignore) for name, file in by_stem(files).items()], names


def _paired(
    predictions: Path, references: Path, cases: Sequence[CaseFiles], partial: bool
) -> tuple[list[str], list[tuple[CaseFiles, Path]]]:
    """Each reference with its prediction, and what to say about the others."""
    found = _predictions(predictions)
    support = _support_cases(predictions)
    missing = [case.name for case in cases if case.name not in found and case.name not in support]
    if missing and not partial:
        raise DataRefused(
            f"{predictions}: {len(missing)} of {len(cases)} references have no prediction: "
            f"{listed(missing)}; "
            "--partial leaves them out"
        )
    notes = []
    kept_out = sorted({case.name for case in cases if case.name not in found} & support)
    strangers = sorted(set(found) - {case.name for case in cases})
    for names, what in (
        (kept_out, "references left out because they were the support"),
        (missing, "references left out because they have no prediction"),
        (strangers, "predictions left out because they have no reference"),
    ):
        if names:
            notes.append(f"{len(names)} {what}: {listed(names)}")
    pairs = [(case, found[case.name]) for case in cases if case.name in found]
    if not pairs:
        raise DataRefused(f"no prediction in {predictions} has the name of a reference in {references}")
    return notes, pairs


def _predictions(folder: Path) -> dict[str, Path]:
    """Predicted label maps by case name: files, and for videos folders with masks."""
    if not folder.is_dir():
        raise UnreadableFile(f"{folder}: there is no such folder")
    films = {f.name.removesuffix("_overlay.mp4") for f in folder.glob("*_overlay.mp4")}
    files = [file for file in image_files(folder) if not file.name.endswith("_overlay.mp4")]
    videos = {f.name: f / _MASKS for f in folder.iterdir() if f.name in films and (f / _MASKS).is_dir()}
    return by_stem(files) | videos


def _support_cases(predictions: Path) -> set[str]:
    """The support of the run that made these predictions, where it says."""
    try:
        run = json.loads((predictions / "run.json").read_text(encoding="utf-8"))
        return set(run["configuration"]["support_cases"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _reference_labels(case: CaseFiles) -> LabelMap:
    if case.labels == case.image and not holds_labels(case.image):
        labels = read_labels(case.image)
        return labels if case.ignore is None else without_ignored(labels, case.ignore)
    loaded = load_case(case)[1]
    if loaded is None:
        raise DataRefused(f"{case.name}: the reference has no labels")
    return loaded


def _values(pairs: Sequence[tuple[CaseFiles, Path]], names: dict[int, str]) -> dict[int, str]:
    """All classes that occur, where no ``labels.json`` says which were predicted."""
    found: set[int] = set(names)
    for case, path in pairs:
        reference = _reference_labels(case)
        for labels in (read_labels(path, reference.grid), reference):
            found |= {int(value) for value in np.unique(labels.labels)}
    return {value: names.get(value, f"label {value}") for value in sorted(found - {0})}
