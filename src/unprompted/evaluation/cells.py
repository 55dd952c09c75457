"""One cell of a benchmark: fit on the support, segment every query, measure, and name the result."""

import hashlib
import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from statistics import fmean
from typing import Any

from unprompted.datasets.base import Dataset
from unprompted.errors import UsageError
from unprompted.evaluation.episodes import Episode, slices_that_count
from unprompted.evaluation.fitting import Fitted, Progress, borrowed, code_of, fit, identity
from unprompted.evaluation.folders import measured
from unprompted.evaluation.metrics import Overlap, slice_dice
from unprompted.evaluation.physical import has_mm
from unprompted.evaluation.recipe import Cell
from unprompted.evaluation.summary import CaseResult, summarise
from unprompted.images import LabelMap, Volume
from unprompted.io.overlay import comparison_png
from unprompted.registry import DATASETS

FORMAT = 1  # of the results; a change that alters numbers raises it
_KEPT = ("Dice", "Dice_sd", "Dice_ci95", "IoU", "NSD", "NSD_ci95", "HD95", "HD95_ci95", "HD", "MASD",
         "volume_error_ml", "volume_bias_ml", "n", "n_missed", "n_spurious", "n_both_empty")  # fmt: skip
_BY_CASE = ("Dice", "NSD", "HD95")
_PICTURES = 2  # worst cases of a cell


def dataset_of(cell: Cell) -> Dataset:
    """The dataset of a cell.

    Raises:
        UsageError: no such dataset or setting.
    """
    kind = DATASETS.load(cell.dataset.kind)
    settings = dict(cell.dataset.settings)
    if cell.root is not None:
        settings["root"] = cell.root
    try:
        dataset: Dataset = kind(**settings)
    except TypeError as error:
        raise UsageError(f"dataset {cell.dataset.name} ({cell.dataset.kind}): {error}") from error
    return dataset


def cell_path(folder: Path, cell: Cell, episode: Episode) -> Path:
    """The file of a result, named by all that makes it but the data's bytes and the code's text."""
    settings = {k: v for k, v in cell.dataset.settings.items() if k not in ("root",)}
    key = {
        "format": FORMAT,
        "version": metadata.version("unprompted"),
        "dataset": [cell.dataset.name, cell.dataset.kind, settings, cell.dataset.mm],
        "support": episode.support,
        "queries": episode.queries,
        "classes": {str(value): name for value, name in episode.classes.items()},
        "method": identity(cell),
        "seed": cell.draw.seed,
        "slices": cell.slices,
        "tolerance_mm": cell.tolerance_mm,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:12]
    words = (cell.dataset.name, cell.method.label, f"{cell.draw.shots}shot", f"seed{cell.draw.seed}")
    return folder / f"{'-'.join(_plain(word) for word in words)}-{digest}.json"


def run_cell(
    cell: Cell,
    episode: Episode,
    lent: Path,
    pictures: Path | None = None,
    progress: Progress = lambda what, done, of: None,
) -> dict[str, Any]:
    """Do the work of one cell; gives back its result as JSON types.

    Args:
        cell: what to do.
        episode: on whom.
        lent: folder of fitted tasks whose adapters other methods of the recipe take.
        pictures: folder for pictures of the worst cases, named by this path with a number.
        progress: called with how far it is.
    """
    dataset = dataset_of(cell)
    support = [dataset.load(case) for case in episode.support]
    patients = {v.name: dataset.patient(c) for c, (v, _) in zip(episode.support, support, strict=True)}
    adapters = borrowed(cell, support, patients, episode.classes, lent, progress)
    begun = time.perf_counter()
    fitted = fit(cell, support, patients, episode.classes, adapters, lent, progress)
    fit_s = time.perf_counter() - begun
    asked = _Asked(cell, episode, dataset, fitted, pictures)
    results, slices, segment_s = asked.all_queries(progress)
    tolerance = cell.tolerance_mm if all(result.physical for result in results) else None
    summary = summarise(results, episode.classes, tolerance)
    return {
        "format": FORMAT,
        "dataset": cell.dataset.name,
        "method": cell.method.label,
        "made_by": identity(cell),
        "backbone": cell.backbone,
        "shots": cell.draw.shots,
        "seed": cell.draw.seed,
        "support": list(episode.support),
        "queries": len(episode.queries),
        "candidates": episode.candidates,
        "draw": asdict(cell.draw),
        "slices": cell.slices,
        "classes": list(episode.classes.values()),
        "tolerance_mm": tolerance,
        "fit_s": round(fit_s, 1),
        "segment_s": round(segment_s, 1),
        **fitted.about,
        "overall": _rounded(summary["foreground_mean"]) | _other_dice(results, slices, episode.classes),
        "per_class": {name: _rounded(summary["mean"][str(value)]) for value, name in episode.classes.items()},
        "cases": _by_case(summary, asked.predicted),
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "threads": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count())),
        },
        "versions": {name: metadata.version(name) for name in ("unprompted", "torch", "surface-distance")},
        "code": code_of(cell),
    }


class _Asked:
    """Every query of a cell in turn; what a method sees is the image alone."""

    def __init__(
        self, cell: Cell, episode: Episode, dataset: Dataset, fitted: Fitted, pictures: Path | None
    ) -> None:
        self.cell, self.episode, self.dataset, self.fitted = cell, episode, dataset, fitted
        self.pictures = pictures
        self.predicted: dict[str, tuple[float | None, ...]] = {}
        self._worst: list[tuple[float, str]] = []

    def all_queries(
        self, progress: Progress
    ) -> tuple[list[CaseResult], dict[int, list[float | None]], float]:
        """Results by case, mean Dice over slices by class and case, and seconds."""
        results: list[CaseResult] = []
        slices: dict[int, list[float | None]] = {value: [] for value in self.episode.classes}
        seconds = 0.0
        for number, case in enumerate(self.episode.queries):
            progress(self.cell.label, number, len(self.episode.queries))
            volume, truth = slices_that_count(*self.dataset.load(case), self.cell.slices)
            begun = time.perf_counter()
            answer = self.fitted.segment(volume)
            seconds += time.perf_counter() - begun
            if answer.predicted is not None:
                self.predicted[case] = answer.predicted
            in_mm = self.cell.dataset.mm and has_mm(truth)
            tolerance = self.cell.tolerance_mm if in_mm else None
            result = measured(case, answer.labels, truth, self.episode.classes, tolerance)
            results.append(result)
            for value, dices in slices.items():
                dices.append(slice_dice(answer.labels, truth, value))
            self._keep_if_bad(result, volume, truth, answer.labels)
        return results, slices, seconds

    def _keep_if_bad(self, result: CaseResult, volume: Volume, truth: LabelMap, labels: LabelMap) -> None:
        """Write the picture of a case that is among the worst so far; better ones make room."""
        known = [overlap.dice for overlap in result.overlaps.values() if overlap.dice is not None]
        if self.pictures is None or not known:
            return
        self._worst = sorted([*self._worst, (fmean(known), result.case)])
        if (fmean(known), result.case) in self._worst[:_PICTURES]:
            shown = LabelMap(truth.labels, truth.grid, self.episode.classes, truth.labelled)
            comparison_png(volume, shown, labels, self._picture(result.case))
        for _, case in self._worst[_PICTURES:]:
            self._picture(case).unlink(missing_ok=True)
        del self._worst[_PICTURES:]

    def _picture(self, case: str) -> Path:
        assert self.pictures is not None
        return self.pictures.with_name(f"{self.pictures.name}-{_plain(case)}.png")


def _other_dice(
    results: list[CaseResult], slices: dict[int, list[float | None]], classes: Mapping[int, str]
) -> dict[str, float | None]:
    """Dice as some papers count it: all cases as one, and per slice."""
    pooled = [_pooled([result.overlaps[value] for result in results]).dice for value in classes]
    by_slice = [_mean([d for d in dices if d is not None]) for dices in slices.values()]
    means = {"Dice_pooled": pooled, "Dice_slice": by_slice}
    return {name: _short(_mean([d for d in found if d is not None])) for name, found in means.items()}


def _pooled(overlaps: list[Overlap]) -> Overlap:
    return Overlap(*(sum(getattr(o, name) for o in overlaps) for name in ("tp", "fp", "fn", "tn")))


def _by_case(
    summary: Mapping[str, Any], predicted: Mapping[str, tuple[float | None, ...]]
) -> dict[str, dict[str, list[float | None]]]:
    names = [name for name in _BY_CASE if name == "Dice" or summary["tolerance_mm"] is not None]
    found = {
        case["case"]: {name: [_short(case["metrics"][v][name]) for v in summary["classes"]] for name in names}
        for case in summary["metric_per_case"]
    }
    for case, dices in predicted.items():
        found[case]["predicted"] = list(dices)
    return found


def _rounded(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _short(entry[name]) for name in _KEPT if name in entry}


def _short(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_short(part) for part in value]
    return round(value, 4) if isinstance(value, float) else value


def _mean(values: list[float]) -> float | None:
    return fmean(values) if values else None


def _plain(word: str) -> str:
    return "".join(c if c.isalnum() or c in "._" else "-" for c in word).strip("-")
