"""Dice of methods and ablations on the development sets: one JSON a cell, finished cells are skipped.

    python benchmarks/dev_sets.py hippocampus --cells ofl-sam2 sam2-mask no-learner
    python benchmarks/dev_sets.py --table

Support is the first cases by name, every other case is a query; whole volumes, 3D Dice per case, mean over
cases per class. A class that neither truth nor prediction shows is left out of its case's mean and counted.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from unprompted import Adaptation, FittedSegmenter, LabelMap, Segmenter, Views, Volume
from unprompted.datasets.base import CaseFiles
from unprompted.datasets.folder import load_case, recognise
from unprompted.engine.views import NO_VIEWS
from unprompted.segmenter import load_backbone, make_method

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Cell:
    """What is measured.

    Attributes:
        method: registry name.
        settings: those that differ from the defaults.
        views: test-time choices.
        adapt_s: seconds of adaptation to the support.
        adapters: cell whose trained weights the backbone gets, None for its own.
    """

    method: str = "ofl-sam2"
    settings: dict[str, Any] = field(default_factory=dict)
    views: Views = NO_VIEWS
    adapt_s: float = 0.0
    adapters: str | None = None


AS_PUBLISHED = {"retrieval": "sequence", "candidates": "shown", "similarity": "cosine", "retrieved": 2}
PLAIN = {"learner": False}
CELLS = {
    "ofl-sam2": Cell(),
    "adapt-5min": Cell(adapt_s=300),
    "no-learner": Cell(settings=PLAIN),
    "no-learner-adapt-5min": Cell(settings=PLAIN, adapt_s=300),
    "no-learner-shown": Cell(settings=PLAIN | {"candidates": "shown"}),
    "no-learner-cosine": Cell(settings=PLAIN | {"similarity": "cosine"}),
    "no-learner-cosine-shown": Cell(settings=PLAIN | {"candidates": "shown", "similarity": "cosine"}),
    "no-fusion": Cell(settings={"fusion": False}),
    "no-update": Cell(settings={"update": False}),
    "no-retrieval": Cell(settings={"retrieval": "none"}),
    "retrieval-as-published": Cell(settings=AS_PUBLISHED),
    "sam2-mask": Cell("sam2-mask"),
    "fate-sam": Cell("fate-sam"),
    "fate-sam-no-volumetric": Cell("fate-sam", {"volumetric": False}),
    "fs-medsam2": Cell("fs-medsam2"),
    "aug-match": Cell("aug-match"),
    "sam2-sgp": Cell("sam2-sgp"),
    "sgp-box-only": Cell("sam2-sgp", {"pma": False}),
    "sgp-no-box": Cell("sam2-sgp", {"box": "none"}),
    "sgp-no-lora": Cell("sam2-sgp", {"rank": 0}),
    "sgp-lora-only": Cell("sam2-sgp", {"heads": False}),
    "sgp-training-free": Cell("sam2-sgp", {"training": False}),
    "ofl-sam2-sgp-adapters": Cell(adapters="sam2-sgp"),
    "sam2-mask-sgp-adapters": Cell("sam2-mask", adapters="sam2-sgp"),
    **{f"view-{view}": Cell(settings=PLAIN, views=Views.named([view])) for view in Views.known()},
}
AT_INFERENCE = ("update", "gamma")  # settings that training does not read
# name: (folder, support cases by name; support is the first `shots` of the folder)
SETS = {
    "hippocampus": ("hippocampus", 3),
    "btcv_ct": ("btcv_ct", 3),
    "acdc": ("acdc", 2),  # two phases of patient 001; patient 002 is the query
    "wbc": ("wbc", 5),
    "sunnybrook_cine": ("sunnybrook_cine", 1),
    "busi": ("busi", 5),
    "ph2": ("ph2", 2),
    "drive": ("drive", 2),
}


def dice_per_class(truth: np.ndarray, predicted: np.ndarray, values: list[int]) -> list[float | None]:
    """3D Dice of each class; None where both are empty."""
    scores: list[float | None] = []
    for value in values:
        a, b = truth == value, predicted == value
        total = int(a.sum() + b.sum())
        scores.append(2 * float((a & b).sum()) / total if total else None)
    return scores


def dice_of_case(truth: LabelMap, labels: np.ndarray, values: list[int]) -> list[float | None]:
    """3D Dice of each class over the labelled slices of a case."""
    known = slice(None) if truth.labelled is None else truth.labelled
    return dice_per_class(truth.labels[known], labels[known], values)


@cache
def cases_of(name: str) -> tuple[dict[int, str] | None, list[CaseFiles], list[CaseFiles]]:
    """Class names, support cases and query cases of a set."""
    folder, shots = SETS[name]
    layout = recognise(DATA / folder, need_labels=True)
    cases = sorted(layout.cases, key=lambda c: c.name)
    return layout.classes, cases[:shots], cases[shots:]


def support_of(name: str) -> list[tuple[Volume, LabelMap]]:
    """The labelled cases that every method learns from."""
    classes, support, _ = cases_of(name)
    return [load_case(case, classes) for case in support]


@cache
def fit(
    name: str,
    method: str,
    settings: str,
    views: Views,
    adapt_s: float,
    adapters: str | None,
    backbone_source: str,
    seed: int,
) -> tuple[FittedSegmenter, float]:
    """Fit on the support of a set; gives back the seconds it took too."""
    support = support_of(name)
    chosen, backbone = make_method(method, json.loads(settings)), load_backbone(backbone_source)
    segmenter = Segmenter(chosen, backbone, views, Adaptation(seconds=adapt_s))
    with TemporaryDirectory() as folder:
        donor = fit_of(name, adapters, backbone_source, seed)[0] if adapters else None
        if donor is not None and donor.adapted is not None and donor.adapted.tensors:
            donor.save(Path(folder))
            segmenter = replace(segmenter, adapters=Path(folder))
        begun = time.perf_counter()
        return segmenter.fit(support, seed=seed), time.perf_counter() - begun


def fit_of(name: str, cell: str, backbone_source: str, seed: int) -> tuple[FittedSegmenter, float]:
    """The fit of a cell; cells whose settings differ only in what happens at inference share one."""
    chosen = CELLS[cell]
    in_training = {k: v for k, v in chosen.settings.items() if k not in AT_INFERENCE}
    views = replace(chosen.views, flips=False)  # mirrored worlds share what is learned
    settings = json.dumps(in_training, sort_keys=True)
    return fit(name, chosen.method, settings, views, chosen.adapt_s, chosen.adapters, backbone_source, seed)


def measured(
    name: str, classes: dict[int, str], segment: Callable[[Volume], tuple[np.ndarray, float | None]]
) -> dict[str, Any]:
    """Segment and score every query: the part of a result that all methods share.

    Args:
        name: the set.
        classes: label value to name, background left out.
        segment: gives labels on the query's own grid, and their mean quality where it is known.
    """
    names, support, queries = cases_of(name)
    rows: dict[str, dict[str, Any]] = {}
    begun = time.perf_counter()
    for case in queries:
        volume, truth = load_case(case, names)
        labels, quality = segment(volume)
        rows[case.name] = {"dice": dice_of_case(truth, labels, list(classes)), "quality": quality}
    segment_s = time.perf_counter() - begun
    table = np.array([[np.nan if d is None else d for d in row["dice"]] for row in rows.values()])
    per_class = np.nanmean(table, axis=0)
    return {
        "support": [c.name for c in support],
        "queries": len(rows),
        "classes": list(classes.values()),
        "dice_per_class": [round(float(d), 4) for d in per_class],
        "dice": round(float(np.nanmean(per_class)), 4),
        "both_empty": int(np.isnan(table).sum()),
        "segment_s": round(segment_s, 1),
        "cases": rows,
    }


def run(name: str, cell: str, backbone_source: str, seed: int) -> dict:
    """One cell: fit on the support, segment and score every query."""
    chosen = CELLS[cell]
    trained, fit_s = fit_of(name, cell, backbone_source, seed)
    fitted = FittedSegmenter.prepared(
        make_method(chosen.method, chosen.settings),
        trained.backbone,
        trained.support,
        trained.intensity,
        trained.axis,
        trained.learned,
        seed,
        chosen.views,
        trained.adapted,
    )

    def segment(volume: Volume) -> tuple[np.ndarray, float]:
        prediction = fitted.segment(volume)
        return prediction.labels.labels, float(prediction.quality.mean())

    return {
        "set": name,
        "cell": cell,
        "method": chosen.method,
        "settings": chosen.settings,
        "views": list(chosen.views.names),
        "adapt_s": chosen.adapt_s,
        "adapters": chosen.adapters,
        "adapt_history": [] if fitted.adapted is None else fitted.adapted.history,
        "adapt_steps": 0 if fitted.adapted is None else fitted.adapted.steps,
        "threads": torch.get_num_threads(),
        "backbone": backbone_source,
        "weights_sha256": fitted.backbone.digest if fitted.adapted is None else fitted.adapted.base_digest,
        "seed": seed,
        "fit_s": round(fit_s, 1),
        **measured(name, fitted.support.classes, segment),
    }


def cell_path(name: str, cell: str, backbone_source: str, digest: str, seed: int) -> Path:
    """File of a cell, named by its content."""
    chosen = CELLS[cell]
    made_by = [chosen.method, chosen.settings, list(chosen.views.names), chosen.adapt_s]
    if chosen.adapters:
        made_by.append(chosen.adapters)
    return result_path(name, cell, [*made_by, backbone_source, digest, seed])


def result_path(name: str, cell: str, made_by: list[Any]) -> Path:
    """File of a result, named by the set and everything that made it."""
    key = json.dumps([name, SETS[name], *made_by], sort_keys=True)
    return RESULTS / f"{name}-{cell}-{hashlib.sha256(key.encode()).hexdigest()[:10]}.json"


def table() -> str:
    """All results as one Markdown table."""
    lines = [
        "| set | cell | weights | Dice | per class | fit s | s per case |",
        "|---|---|---|---|---|---|---|",
    ]
    for path in sorted(RESULTS.glob("*.json")):
        r = json.loads(path.read_text())
        per_class = ", ".join(f"{c} {d:.3f}" for c, d in zip(r["classes"], r["dice_per_class"], strict=True))
        lines.append(
            f"| {r['set']} | {r['cell']} | {r['weights_sha256'][:8]} | {r['dice']:.3f} | {per_class} | "
            f"{r['fit_s']:.0f} | {r['segment_s'] / r['queries']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="*", choices=[[], *SETS], help="development sets")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--backbone", default="builtin")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="print all results as Markdown")
    options = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    digest = load_backbone(options.backbone).digest if options.sets else ""
    for name in options.sets:
        for cell in options.cells:
            path = cell_path(name, cell, options.backbone, digest, options.seed)
            if not path.exists():
                result = run(name, cell, options.backbone, options.seed)
                path.write_text(json.dumps(result, indent=1) + "\n")
            result = json.loads(path.read_text())
            print(f"{name:16} {cell:16} Dice {result['dice']:.3f}  {result['dice_per_class']}", flush=True)
    if options.table:
        print(table())


if __name__ == "__main__":
    main()
