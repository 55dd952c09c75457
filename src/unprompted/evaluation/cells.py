"""One cell of a benchmark: fit on the support, segment every query, measure, and name the result."""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from statistics import fmean
from typing import Any

from unprompted.datasets.base import Dataset
from unprompted.errors import UsageError
from unprompted.evaluation.code import code_digest
from unprompted.evaluation.episodes import Episode, slices_that_count
from unprompted.evaluation.folders import measured
from unprompted.evaluation.metrics import Overlap, slice_dice
from unprompted.evaluation.physical import has_mm
from unprompted.evaluation.recipe import Cell
from unprompted.evaluation.summary import CaseResult, summarise
from unprompted.images import LabelMap, Volume
from unprompted.io.overlay import comparison_png
from unprompted.registry import DATASETS, METHODS, PEERS

FORMAT = 1  # of the results; a change that alters numbers raises it
_KEPT = ("Dice", "Dice_sd", "Dice_ci95", "IoU", "NSD", "NSD_ci95", "HD95", "HD95_ci95", "HD", "MASD",
         "volume_error_ml", "volume_bias_ml", "n", "n_missed", "n_spurious", "n_both_empty")  # fmt: skip
_BY_CASE = ("Dice", "NSD", "HD95")
_PICTURES = 2  # worst cases of a cell

Segment = Callable[[Volume], LabelMap]
Progress = Callable[[str, float, float], None]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A method after its support.

    Attributes:
        segment: labels of a query on its own grid.
        about: what the result should say of the fit, as JSON types.
    """

    segment: Segment
    about: Mapping[str, Any]


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
        "method": _identity(cell),
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
    pictures: Path | None = None,
    progress: Progress = lambda what, done, of: None,
) -> dict[str, Any]:
    """Do the work of one cell; gives back its result as JSON types.

    Args:
        cell: what to do.
        episode: on whom.
        pictures: folder for pictures of the worst cases, named by this path with a number.
        progress: called with how far it is.
    """
    dataset = dataset_of(cell)
    support = [dataset.load(case) for case in episode.support]
    begun = time.perf_counter()
    fitted = _fitted(cell, support, episode.classes, progress)
    fit_s = time.perf_counter() - begun
    asked = _Asked(cell, episode, dataset, fitted, pictures)
    results, slices, segment_s = asked.all_queries(progress)
    tolerance = cell.tolerance_mm if all(result.physical for result in results) else None
    summary = summarise(results, episode.classes, tolerance)
    return {
        "format": FORMAT,
        "dataset": cell.dataset.name,
        "method": cell.method.label,
        "made_by": _identity(cell),
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
        "cases": _by_case(summary),
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "threads": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count())),
        },
        "versions": {name: metadata.version(name) for name in ("unprompted", "torch", "surface-distance")},
        "code": code_digest(_module(cell)),
    }


def code_of(cell: Cell) -> str:
    """The digest of the code that would run a cell today."""
    return code_digest(_module(cell))


class _Asked:
    """Every query of a cell in turn; what a method sees is the image alone."""

    def __init__(
        self, cell: Cell, episode: Episode, dataset: Dataset, fitted: Fitted, pictures: Path | None
    ) -> None:
        self.cell, self.episode, self.dataset, self.fitted = cell, episode, dataset, fitted
        self.pictures = pictures
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
            labels = self.fitted.segment(volume)
            seconds += time.perf_counter() - begun
            in_mm = self.cell.dataset.mm and has_mm(truth)
            tolerance = self.cell.tolerance_mm if in_mm else None
            result = measured(case, labels, truth, self.episode.classes, tolerance)
            results.append(result)
            for value, dices in slices.items():
                dices.append(slice_dice(labels, truth, value))
            self._keep_if_bad(result, volume, truth, labels)
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


def _fitted(
    cell: Cell,
    support: list[tuple[Volume, LabelMap]],
    classes: dict[int, str],
    progress: Progress,
) -> Fitted:
    if cell.method.peer is not None:
        trained = _peer(cell).fit(support, classes, cell.draw.seed, progress)
        return Fitted(trained.segment, {"weights_sha256": None, "training": trained.about})
    from unprompted import Adaptation, Segmenter, Views
    from unprompted.refinement.settings import Refinement
    from unprompted.segmenter import make_method

    segmenter = Segmenter(
        make_method(cell.method.method or "", cell.method.settings),
        _backbone(cell.backbone),
        Views.named(cell.method.views),
        Adaptation(seconds=cell.method.adapt_s, steps=cell.method.adapt_steps),
        Refinement() if cell.method.refine else Refinement(steps=0),
    )
    fitted = segmenter.fit(support, classes=classes, seed=cell.draw.seed, progress=progress)
    about: dict[str, Any] = {"weights_sha256": _backbone(cell.backbone).digest}
    if fitted.adapted is not None:
        about |= {"adapt_steps": fitted.adapted.steps, "adapt_history": fitted.adapted.history}
    if fitted.refined.history:
        about["refine_history"] = {world or "plain": told for world, told in fitted.refined.history.items()}
    return Fitted(lambda volume: fitted.segment(volume).labels, about)


def _peer(cell: Cell) -> Any:
    name = cell.method.peer or ""
    try:
        return PEERS.load(name)(**cell.method.settings)
    except ImportError as error:
        raise UsageError(f'peer {name}: {error}; pip install "unprompted[bench]"') from error
    except TypeError as error:
        raise UsageError(f"peer {name}: {error}") from error


@lru_cache(maxsize=2)
def _backbone(source: str) -> Any:
    from unprompted import load_backbone

    return load_backbone(source)


def _identity(cell: Cell) -> dict[str, Any]:
    """Everything that decides what a method does, with every default spelled out."""
    entry = cell.method
    if entry.peer is not None:
        return {"peer": entry.peer, "settings": asdict(_peer(cell))}
    from unprompted.segmenter import make_method, settings_of

    return {
        "method": entry.method,
        "settings": settings_of(make_method(entry.method or "", entry.settings)),
        "views": list(entry.views),
        "adapt_s": entry.adapt_s,
        "adapt_steps": entry.adapt_steps,
        "refine": entry.refine,
        "weights_sha256": _backbone(cell.backbone).digest,
    }


def _module(cell: Cell) -> str:
    path = PEERS[cell.method.peer] if cell.method.peer is not None else METHODS[cell.method.method or ""]
    return path.split(":")[0]


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


def _by_case(summary: Mapping[str, Any]) -> dict[str, dict[str, list[float | None]]]:
    names = [name for name in _BY_CASE if name == "Dice" or summary["tolerance_mm"] is not None]
    return {
        case["case"]: {name: [_short(case["metrics"][v][name]) for v in summary["classes"]] for name in names}
        for case in summary["metric_per_case"]
    }


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
