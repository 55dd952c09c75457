"""The quality of every case as rows of one table: what a person sorts to find the worst."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unprompted.images import LabelMap
from unprompted.prediction import Prediction

QUALITY_FIELDS = (
    "case", "slice", "class", "quality", "pixels", "predicted_dice", "own_dice", "round_trip", "review",
)  # fmt: skip


def predicted_mean(record: Mapping[str, Any]) -> float | None:
    """Mean predicted Dice over the classes that can be judged."""
    known = [e["dice"] for e in record.get("predicted_dice", {}).values() if e["dice"] is not None]
    return round(float(np.mean(known)), 4) if known else None


def slices_of(prediction: Prediction, sliced: LabelMap, classes: Mapping[int, str]) -> dict[str, Any]:
    """Quality and pixels of every class, slice by slice."""
    found = {}
    counts = sliced.counts()
    for k, (value, name) in enumerate(sorted(classes.items())):
        pixels = counts[:, value]
        quality = [round(float(q), 4) for q in prediction.quality[:, k]]
        found[name] = {"quality": quality, "pixels": [int(n) for n in pixels]}
    return found


def mean_shown(quality: Sequence[float], pixels: Sequence[int]) -> float | None:
    """Mean quality of the slices that show a class, None where no slice does."""
    shown = [q for q, n in zip(quality, pixels, strict=True) if n]
    return round(float(np.mean(shown)), 4) if shown else None


def rows_of(case: str, record: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Rows of `QUALITY_FIELDS`: every slice and class, then the means over the slices that show one."""
    rows: list[tuple[Any, ...]] = []
    entries, blank = record["slices"].items(), ("", "", "", "")
    for name, entry in entries:
        pairs = zip(entry["quality"], entry["pixels"], strict=True)
        rows += [(case, n, name, quality, pixels, *blank) for n, (quality, pixels) in enumerate(pairs, 1)]
    rows.sort(key=lambda row: row[1])  # stable: classes stay in order
    review = False
    for name, entry in entries:
        judged = record.get("predicted_dice", {}).get(name, {})
        review |= judged.get("review", False)
        told = *(judged.get(part) for part in ("dice", "own", "round_trip")), _yes(judged.get("review"))
        rows.append((case, "mean", name, record["class_quality"][name], sum(entry["pixels"]), *told))
    pixels = sum(sum(entry["pixels"]) for _, entry in entries)
    told = predicted_mean(record), None, None, _yes(review)
    rows.append((case, "mean", "mean", record["quality"], pixels, *told))
    return rows


def _yes(flag: bool | None) -> str:
    return "yes" if flag else ""
