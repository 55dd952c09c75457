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
from functools import cache
from pathlib import Path

import numpy as np

from unprompted import FittedSegmenter, Segmenter
from unprompted.datasets.folder import load_case, recognise
from unprompted.segmenter import load_backbone, make_method

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RESULTS = Path(__file__).parent / "results"

# name: (method, settings)
CELLS = {
    "ofl-sam2": ("ofl-sam2", {}),
    "no-learner": ("ofl-sam2", {"learner": False}),
    "no-fusion": ("ofl-sam2", {"fusion": False}),
    "no-update": ("ofl-sam2", {"update": False}),
    "no-retrieval": ("ofl-sam2", {"retrieval": "none"}),
    "retrieval-once": ("ofl-sam2", {"retrieval": "sequence"}),
    "sam2-mask": ("sam2-mask", {}),
}
AT_INFERENCE = ("update", "retrieval", "gamma")  # settings that training does not read
# name: (folder, support cases by name; support is the first `shots` of the folder)
SETS = {
    "hippocampus": ("hippocampus", 3),
    "btcv_ct": ("btcv_ct", 3),
    "acdc": ("acdc", 2),  # two phases of patient 001; patient 002 is the query
    "wbc": ("wbc", 5),
    "sunnybrook_cine": ("sunnybrook_cine", 1),
}


def dice_per_class(truth: np.ndarray, predicted: np.ndarray, values: list[int]) -> list[float | None]:
    """3D Dice of each class; None where both are empty."""
    scores: list[float | None] = []
    for value in values:
        a, b = truth == value, predicted == value
        total = int(a.sum() + b.sum())
        scores.append(2 * float((a & b).sum()) / total if total else None)
    return scores


@cache
def fit(
    name: str, method: str, settings: str, backbone_source: str, seed: int
) -> tuple[FittedSegmenter, float]:
    """Fit on the support of a set; gives back the seconds it took too."""
    folder, shots = SETS[name]
    layout = recognise(DATA / folder, need_labels=True)
    support = [load_case(c, layout.classes) for c in sorted(layout.cases, key=lambda c: c.name)[:shots]]
    begun = time.perf_counter()
    segmenter = Segmenter(make_method(method, json.loads(settings)), load_backbone(backbone_source))
    return segmenter.fit(support, seed=seed), time.perf_counter() - begun


def run(name: str, cell: str, backbone_source: str, seed: int) -> dict:
    """One cell: fit on the support, segment and score every query.

    Cells whose settings differ only in what happens at inference share one fit.
    """
    folder, shots = SETS[name]
    method, settings = CELLS[cell]
    layout = recognise(DATA / folder, need_labels=True)
    cases = sorted(layout.cases, key=lambda c: c.name)
    in_training = {k: v for k, v in settings.items() if k not in AT_INFERENCE}
    trained, fit_s = fit(name, method, json.dumps(in_training, sort_keys=True), backbone_source, seed)
    fitted = FittedSegmenter.prepared(
        make_method(method, settings),
        trained.backbone,
        trained.support,
        trained.intensity,
        trained.axis,
        trained.learned,
        seed,
    )
    values, rows = list(fitted.support.classes), {}
    begun = time.perf_counter()
    for case in cases[shots:]:
        volume, truth = load_case(case, layout.classes)
        prediction = fitted.segment(volume)
        known = slice(None) if truth.labelled is None else truth.labelled
        scores = dice_per_class(truth.labels[known], prediction.labels.labels[known], values)
        rows[case.name] = {"dice": scores, "quality": float(prediction.quality.mean())}
    segment_s = time.perf_counter() - begun
    table = np.array([[np.nan if d is None else d for d in row["dice"]] for row in rows.values()])
    per_class = np.nanmean(table, axis=0)
    return {
        "set": name,
        "cell": cell,
        "method": method,
        "settings": settings,
        "backbone": backbone_source,
        "weights_sha256": fitted.backbone.digest,
        "support": [c.name for c in cases[:shots]],
        "seed": seed,
        "queries": len(rows),
        "classes": list(fitted.support.classes.values()),
        "dice_per_class": [round(float(d), 4) for d in per_class],
        "dice": round(float(np.nanmean(per_class)), 4),
        "both_empty": int(np.isnan(table).sum()),
        "fit_s": round(fit_s, 1),
        "segment_s": round(segment_s, 1),
        "cases": rows,
    }


def cell_path(name: str, cell: str, backbone_source: str, digest: str, seed: int) -> Path:
    """File of a cell, named by its content."""
    method, settings = CELLS[cell]
    key = json.dumps([name, SETS[name], method, settings, backbone_source, digest, seed], sort_keys=True)
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
