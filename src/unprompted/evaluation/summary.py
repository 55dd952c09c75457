"""The numbers of many cases in the shape of nnU-Net's ``summary.json``, with what it leaves out.

A class in neither prediction nor reference of a case says nothing: it is left out of the means and
counted as ``n_both_empty``. A missed or a spurious structure counts as the worst there is, Dice 0 and the
diagonal of the image, and is counted too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unprompted.evaluation.intervals import bootstrap
from unprompted.evaluation.metrics import Overlap
from unprompted.evaluation.physical import Physical

OVERLAP_SCORES = ("Dice", "IoU")
MM_SCORES = ("NSD", "HD95", "HD", "MASD", "volume_error_ml", "volume_bias_ml")
COUNTS = ("TP", "FP", "FN", "TN", "n_pred", "n_ref")
FLAGS = ("missed", "spurious", "both_empty")


@dataclass(frozen=True)
class CaseResult:
    """One case measured.

    Attributes:
        case: its name.
        overlaps: by label value.
        prediction: name of the predicted label map.
        reference: name of the reference label map.
        physical: errors in mm by label value; empty where they were not measured.
    """

    case: str
    overlaps: Mapping[int, Overlap]
    prediction: str = ""
    reference: str = ""
    physical: Mapping[int, Physical] = field(default_factory=dict)


def summarise(
    results: Sequence[CaseResult], classes: Mapping[int, str], tolerance_mm: float | None = None
) -> dict[str, Any]:
    """All numbers as JSON types.

    Args:
        results: every case; either all or none with errors in mm.
        classes: label value to name.
        tolerance_mm: of NSD; None where nothing was measured in mm.

    Returns:
        ``mean`` by label value, ``foreground_mean`` (the mean of the class means), ``case_mean`` (the
        mean over cases of the mean over classes), ``metric_per_case``, ``classes`` and ``definitions``.
        ``Dice_ci95`` and its like are 95 % bootstrap intervals over cases.
    """
    scores = scores_of(tolerance_mm)
    per_case = [_case(result, scores) for result in results]
    mean = {
        str(value): _mean([case["metrics"][str(value)] for case in per_case], scores) for value in classes
    }
    overall = _mean_of_classes(list(mean.values()), scores)
    for name in scores:
        table = _table(per_case, classes, name)
        overall[f"{name}_ci95"], by_class = bootstrap(table)
        for value, interval in zip(classes, by_class, strict=True):
            mean[str(value)][f"{name}_ci95"] = interval
    return {
        "foreground_mean": overall,
        "mean": mean,
        "case_mean": _mean_of_cases(per_case, scores),
        "metric_per_case": per_case,
        "classes": {str(value): name for value, name in classes.items()},
        "n_cases": len(results),
        "tolerance_mm": tolerance_mm,
        "definitions": _definitions(tolerance_mm),
    }


def scores_of(tolerance_mm: float | None) -> tuple[str, ...]:
    """The names of what was measured."""
    return OVERLAP_SCORES if tolerance_mm is None else OVERLAP_SCORES + MM_SCORES


def _definitions(tolerance_mm: float | None) -> dict[str, str]:
    always = {
        "Dice": "2 TP / (2 TP + FP + FN) over all voxels of a case, never over pooled slices",
        "IoU": "TP / (TP + FP + FN)",
        "missed": "in the reference, not in the prediction: counts as 0",
        "spurious": "in the prediction, not in the reference: counts as 0",
        "both_empty": "in neither: left out of the means",
        "ci95": "percentile bootstrap over cases, 2000 draws, seed 0",
    }
    if tolerance_mm is None:
        return always
    library = f"surface-distance {metadata.version('surface-distance')}"
    return always | {
        "NSD": f"share of both surfaces within {tolerance_mm:g} mm of the other, by area ({library})",
        "HD95": f"mm, larger of both directed 95th percentiles of surface distance, by area ({library})",
        "HD": f"mm, largest distance between the surfaces ({library})",
        "MASD": f"mm, mean of both directed mean surface distances, by area ({library})",
        "volume_error_ml": "absolute difference of the volumes",
        "volume_bias_ml": "volume of the prediction less that of the reference",
        "missed or spurious in mm": "NSD 0; HD95, HD and MASD are the diagonal of the image",
    }


def _case(result: CaseResult, scores: Sequence[str]) -> dict[str, Any]:
    metrics = {}
    for value, overlap in result.overlaps.items():
        known = _scores(overlap, result.physical.get(value))
        metrics[str(value)] = {name: known[name] for name in scores} | {
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
    return {
        "case": result.case,
        "metrics": metrics,
        "prediction_file": result.prediction,
        "reference_file": result.reference,
    }


def _scores(overlap: Overlap, physical: Physical | None) -> dict[str, float | None]:
    known = {"Dice": overlap.dice, "IoU": overlap.iou}
    if physical is None:
        return known
    return known | {
        "NSD": physical.nsd,
        "HD95": physical.hd95_mm,
        "HD": physical.hd_mm,
        "MASD": physical.masd_mm,
        "volume_error_ml": physical.volume_error_ml,
        "volume_bias_ml": physical.volume_bias_ml,
    }


def _table(
    per_case: Sequence[Mapping[str, Any]], classes: Mapping[int, str], name: str
) -> NDArray[np.float64]:
    """Cases by classes, NaN where there is nothing to measure."""
    rows = [[case["metrics"][str(value)][name] for value in classes] for case in per_case]
    return np.array(rows, np.float64).reshape(len(per_case), len(classes))


def _mean(entries: Sequence[Mapping[str, Any]], scores: Sequence[str]) -> dict[str, Any]:
    """One class over all cases."""
    dices = [entry["Dice"] for entry in entries if entry["Dice"] is not None]
    means = {name: _average(entry[name] for entry in entries) for name in (*scores, *COUNTS)}
    counts = {f"n_{flag}": sum(entry[flag] for entry in entries) for flag in FLAGS}
    return means | {"Dice_sd": _spread(dices), "n": len(dices)} | counts


def _mean_of_classes(means: Sequence[Mapping[str, Any]], scores: Sequence[str]) -> dict[str, Any]:
    averages = {name: _average(mean[name] for mean in means) for name in (*scores, *COUNTS)}
    sums = {name: sum(mean[name] for mean in means) for name in ("n", *(f"n_{flag}" for flag in FLAGS))}
    dices = [mean["Dice"] for mean in means if mean["Dice"] is not None]
    return averages | {"Dice_sd": _spread(dices)} | sums


def _mean_of_cases(per_case: Sequence[Mapping[str, Any]], scores: Sequence[str]) -> dict[str, Any]:
    """Mean over cases of the mean over classes."""
    found: dict[str, Any] = {}
    for name in scores:
        case_means = [_average(m[name] for m in case["metrics"].values()) for case in per_case]
        known = [value for value in case_means if value is not None]
        found[name] = _average(known)
        if name == "Dice":
            found |= {"Dice_sd": _spread(known), "n": len(known)}
        found[f"{name}_ci95"] = bootstrap(np.array(known, np.float64)[:, None])[0]
    return found


def _average(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _spread(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None
