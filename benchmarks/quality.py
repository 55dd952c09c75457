"""How well Dice is told without truth: before the run by `estimate`, after it by the predicted Dice.

    python benchmarks/quality.py wbc hippocampus --queries 20
    python benchmarks/quality.py --table

Support is the first cases by name, queries are spread evenly over the others. One JSON a set and method;
finished ones are skipped. `docs/quality.md` says what the numbers mean.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from unprompted import FittedSegmenter, Segmenter, load_backbone
from unprompted.datasets.base import CaseFiles
from unprompted.datasets.folder import load_case, recognise
from unprompted.evaluation.estimate import estimate
from unprompted.evaluation.foretold import agreement
from unprompted.evaluation.metrics import overlaps
from unprompted.loading import make_method
from unprompted.quality import QualityCheck
from unprompted.refinement.settings import Refinement
from unprompted.segmenter import sliced_support

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RESULTS = Path(__file__).parent / "results" / "quality"
SHOTS = {"hippocampus": 3, "btcv_ct": 3, "acdc": 2, "wbc": 5}
PATIENTS = {"acdc": {"acdc_001_ED": "001", "acdc_001_ES": "001"}}


def judged(task: FittedSegmenter, queries: Sequence[CaseFiles], names: dict[int, str] | None) -> list[dict]:
    """Each query segmented, measured, and judged without its truth."""
    classes, rows = task.support.classes, []
    checks = {"own": QualityCheck.of(task, round_trip=False), "both": QualityCheck.of(task)}
    for case in queries:
        volume, truth = load_case(case, names)
        assert truth is not None
        prediction = task.segment(volume)
        measured = overlaps(prediction.labels, truth, classes)
        own = checks["own"].judge(volume, prediction)
        begun = time.perf_counter()
        both = checks["both"].judge(volume, prediction)
        rows.append(
            {
                "case": case.name,
                "dice": {classes[v]: o.dice for v, o in measured.items()},
                "predicted": {p.name: p.dice for p in both},
                "own": {p.name: p.dice for p in own},
                "round_trip": {p.name: p.round_trip for p in both},
                "segment_s": round(prediction.provenance.elapsed_s, 2),
                "judge_s": round(time.perf_counter() - begun, 2),
            }
        )
        print(case.name, {k: f"{d:.2f}" for k, d in rows[-1]["dice"].items() if d is not None}, flush=True)
    return rows


def order(rows: Sequence[dict], key: str) -> dict[str, Any]:
    """How well a prediction orders cases."""
    found = agreement([(list(row["dice"].values()), [row[key][n] for n in row["dice"]]) for row in rows])
    assert found is not None
    return {name: _rounded(value) for name, value in asdict(found).items()}


def run(
    name: str, method: str, settings: dict[str, Any], refined: bool, most_queries: int, seed: int
) -> dict[str, Any]:
    """One set: estimate from the support, then segment and judge queries."""
    layout = recognise(DATA / name, need_labels=True)
    files = sorted(layout.cases, key=lambda case: case.name)
    support, axis = sliced_support(
        [load_case(case, layout.classes) for case in files[: SHOTS[name]]], layout.classes, None
    )
    rest = files[SHOTS[name] :]
    rows = np.linspace(0, len(rest) - 1, min(most_queries, len(rest))).round().astype(int)
    refinement = Refinement() if refined else Refinement(steps=0)
    segmenter = Segmenter(make_method(method, settings), load_backbone(), refinement=refinement)
    before = estimate(support, [segmenter], axis=axis, patients=PATIENTS.get(name), seed=seed)
    print(f"{name}: expected {before.methods[0].overall}", flush=True)
    found = judged(segmenter.fit(support, axis=axis, seed=seed), [rest[row] for row in rows], layout.classes)
    return {
        "set": name,
        "method": method,
        "settings": settings,
        "refined": refined,
        "seed": seed,
        "weights_sha256": segmenter.backbone.digest,
        "support": list(support.cases),
        "estimate": before.as_dict(),
        "queries": found,
    } | compared(before.as_dict()["methods"][0], found)


def compared(expected: dict[str, Any], rows: Sequence[dict]) -> dict[str, Any]:
    """What was told against what came, in a few numbers."""
    per_class = []
    for entry in expected["per_class"]:
        true = [row["dice"][entry["name"]] for row in rows if row["dice"][entry["name"]] is not None]
        per_class.append(
            {"class": entry["name"], "expected": entry["dice"], "queries": _rounded(fmean(true))}
        )
    errors = [abs(e["expected"] - e["queries"]) for e in per_class if e["expected"] is not None]
    spent = {key: fmean(row[key] for row in rows) for key in ("segment_s", "judge_s")}
    return {
        "before": {
            "per_class": per_class,
            "mean_absolute_error": _rounded(fmean(errors)) if errors else None,
        },
        "after": order(rows, "predicted"),
        "after_own_quality_only": order(rows, "own"),
        "seconds_a_case": {key: round(value, 2) for key, value in spent.items()},
    }


def table() -> str:
    """All results as one Markdown table."""
    lines = [
        "| set | method | queries | expected, measured per class | error | Spearman: predicted (own only) |"
        " worst fifth found: predicted (own only) | s to segment, to judge |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for path in sorted(RESULTS.glob("*.json")):
        r = json.loads(path.read_text())
        classes = [f"{c['class']} {c['expected']}, {c['queries']}" for c in r["before"]["per_class"]]
        after, own, spent = r["after"], r["after_own_quality_only"], r["seconds_a_case"]
        lines.append(
            f"| {r['set']} | {r['method']} | {after['cases']} | {'; '.join(classes)} | "
            f"{r['before']['mean_absolute_error']} | {after['spearman_cases']} ({own['spearman_cases']}) | "
            f"{after['worst_fifth_found']} ({own['worst_fifth_found']}) of {after['worst_fifth']} | "
            f"{spent['segment_s']}, {spent['judge_s']} |"
        )
    return "\n".join(lines)


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, 4)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="*", choices=[[], *SHOTS], help="development sets")
    parser.add_argument("--method", default="ofl-sam2")
    parser.add_argument("--no-learner", action="store_true", help="ofl-sam2 without its learner")
    parser.add_argument("--no-refine", action="store_true", help="masks as the method draws them")
    parser.add_argument("--queries", type=int, default=1000, help="most queries a set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="print all results as Markdown")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    cell = options.method + "-no-learner" * options.no_learner + "-no-refine" * options.no_refine
    for name in options.sets:
        path = RESULTS / f"{name}-{cell}-{options.queries}-seed{options.seed}.json"
        if not path.exists():
            settings = {"learner": False} if options.no_learner else {}
            refined = not options.no_refine
            result = run(name, options.method, settings, refined, options.queries, options.seed)
            path.write_text(json.dumps(result, indent=1) + "\n")
    if options.table:
        print(table())


if __name__ == "__main__":
    main()
