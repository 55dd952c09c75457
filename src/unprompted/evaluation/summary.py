"""The numbers of many cases in the shape of nnU-Net's ``summary.json``, with what it leaves out.

A class in neither prediction nor reference of a case says nothing: it is left out of the means and
counted as ``n_both_empty``. A missed or a spurious structure counts as Dice 0, and is counted too.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from unprompted.evaluation.metrics import Overlap
from unprompted.io.atomic import replacing

SUMMARY, TABLE = "summary.json", "metrics.csv"
_SCORES = ("Dice", "IoU")
_COUNTS = ("TP", "FP", "FN", "TN", "n_pred", "n_ref")
_FLAGS = ("missed", "spurious", "both_empty")


@dataclass(frozen=True)
class CaseResult:
    """One case measured.

    Attributes:
        case: its name.
        overlaps: by label value.
        prediction: name of the predicted label map.
        reference: name of the reference label map.
    """

    case: str
    overlaps: Mapping[int, Overlap]
    prediction: str = ""
    reference: str = ""


def summarise(results: Sequence[CaseResult], classes: Mapping[int, str]) -> dict[str, Any]:
    """All numbers as JSON types.

    Returns:
        ``mean`` by label value, ``foreground_mean`` (the mean of the class means), ``case_mean`` (the
        mean over cases of the mean over classes), ``metric_per_case``, ``classes`` and ``definitions``.
    """
    per_case = [_case(result) for result in results]
    mean = {str(value): _mean([case["metrics"][str(value)] for case in per_case]) for value in classes}
    case_means = [_average(m["Dice"] for m in case["metrics"].values()) for case in per_case]
    known = [dice for dice in case_means if dice is not None]
    return {
        "foreground_mean": _mean_of_classes(list(mean.values())),
        "mean": mean,
        "case_mean": {"Dice": _average(known), "Dice_sd": _spread(known), "n": len(known)},
        "metric_per_case": per_case,
        "classes": {str(value): name for value, name in classes.items()},
        "n_cases": len(results),
        "definitions": {
            "Dice": "2 TP / (2 TP + FP + FN) over all voxels of a case, never over pooled slices",
            "IoU": "TP / (TP + FP + FN)",
            "missed": "in the reference, not in the prediction: counts as 0",
            "spurious": "in the prediction, not in the reference: counts as 0",
            "both_empty": "in neither: left out of the means",
        },
    }


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write ``summary.json``, and ``metrics.csv`` with one row a case and class."""
    with replacing(folder / SUMMARY) as partial:
        partial.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("case", "class", *_SCORES, *_COUNTS, *_FLAGS))
    for case in summary["metric_per_case"]:
        for value, name in summary["classes"].items():
            entry = case["metrics"][value]
            writer.writerow((case["case"], name, *(entry[key] for key in (*_SCORES, *_COUNTS, *_FLAGS))))
    with replacing(folder / TABLE) as partial:
        partial.write_text(table.getvalue(), encoding="utf-8")


def _case(result: CaseResult) -> dict[str, Any]:
    metrics = {
        str(value): {
            "Dice": overlap.dice,
            "IoU": overlap.iou,
            "TP": overlap.tp,
            "FP": overlap.fp,
            "FN": overlap.fn,
            "TN": overlap.tn,
            "n_pred": overlap.n_pred,
            "n_ref": overlap.n_ref,
            "missed": overlap.missed,
            "spurious": overlap.spurious,
            "both_empty": overlap.both_empty,
        }
        for value, overlap in result.overlaps.items()
    }
    return {
        "case": result.case,
        "metrics": metrics,
        "prediction_file": result.prediction,
        "reference_file": result.reference,
    }


def _mean(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One class over all cases."""
    dices = [entry["Dice"] for entry in entries if entry["Dice"] is not None]
    scores = {name: _average(entry[name] for entry in entries) for name in (*_SCORES, *_COUNTS)}
    counts = {f"n_{flag}": sum(entry[flag] for entry in entries) for flag in _FLAGS}
    return scores | {"Dice_sd": _spread(dices), "n": len(dices)} | counts


def _mean_of_classes(means: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    scores = {name: _average(mean[name] for mean in means) for name in (*_SCORES, *_COUNTS)}
    sums = {name: sum(mean[name] for mean in means) for name in ("n", *(f"n_{flag}" for flag in _FLAGS))}
    dices = [mean["Dice"] for mean in means if mean["Dice"] is not None]
    return scores | {"Dice_sd": _spread(dices)} | sums


def _average(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _spread(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None
