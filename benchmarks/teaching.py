"""What corrections teach: mean Dice against the number of corrected slices, with and without teaching.

    python benchmarks/teaching.py hippocampus btcv_ct --queries 2
    python benchmarks/teaching.py --plot

A simulated reader corrects, from the truth, the slice that `unprompted suggest` would name. "Corrected":
those slices are replaced and nothing is learned. "Taught": they join the support too, and the case is
segmented again. Support is the first cases by name, queries are spread evenly over the others; no refinement,
no learner, so that it ends in minutes on a CPU. One JSON a set.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from unprompted import FittedSegmenter, LabelMap, Segmenter, Volume, load_backbone
from unprompted.apps.review.suggest import worst_slice
from unprompted.apps.review.teach import example_of
from unprompted.datasets.folder import load_case, recognise
from unprompted.evaluation.metrics import overlaps
from unprompted.loading import make_method
from unprompted.methods.support_memory import spread
from unprompted.refinement.settings import Refinement

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RESULTS = Path(__file__).parent / "results" / "teaching"
PLOT = Path(__file__).resolve().parents[1] / "docs" / "images" / "teaching.png"
METHOD, SETTINGS = "ofl-sam2", {"learner": False}


def curve(task: FittedSegmenter, volume: Volume, truth: LabelMap, points: list[int]) -> dict[str, Any]:
    """Mean Dice of both readers at every number of corrected slices.

    Args:
        task: fitted, not taught yet.
        volume: the query, cut along the slice axis of the task.
        truth: its labels, cut likewise.
        points: numbers of corrected slices, growing, the first 0.
    """
    window = task.intensity.bounds([volume.voxels])
    first = task.segment(volume)
    rows, seconds = {"corrected": [], "taught": []}, []
    plain, plain_quality = first.labels.labels.copy(), first.quality.copy()
    taught, taught_quality = plain.copy(), plain_quality.copy()
    by_plain: list[int] = []
    by_taught: list[int] = []
    for point in points:
        by_plain += _worst(plain, plain_quality, by_plain, point, task)
        new = _worst(taught, taught_quality, by_taught, point, task)
        if new:
            by_taught += new
            begun = time.perf_counter()
            examples = [example_of(volume, n, truth.labels[n], window) for n in by_taught]
            again = task.taught(*examples).segment(volume)
            seconds.append(round(time.perf_counter() - begun, 1))
            taught, taught_quality = again.labels.labels.copy(), again.quality.copy()
        plain[by_plain], taught[by_taught] = truth.labels[by_plain], truth.labels[by_taught]
        rows["corrected"].append(_dice(plain, truth, task))
        rows["taught"].append(_dice(taught, truth, task))
    slices = {"corrected": by_plain, "taught": by_taught}
    return {"dice": rows, "slices": slices, "teach_s": seconds, "depth": len(plain)}


def _worst(labels: Any, quality: Any, known: list[int], point: int, task: FittedSegmenter) -> list[int]:
    """The next slices that would be named, until there are `point` of them."""
    pixels = np.stack([(labels == value).sum(axis=(1, 2)) for value in task.support.classes], axis=1)
    new: list[int] = []
    while len(known) + len(new) < point:
        found = worst_slice(quality.astype(np.float64), pixels, [*known, *new])
        if found is None:
            break
        new.append(found)
    return new


def _dice(labels: Any, truth: LabelMap, task: FittedSegmenter) -> float:
    """Mean Dice over the classes that the truth shows."""
    shown = [value for value in task.support.classes if (truth.labels == value).any()]
    measured = overlaps(LabelMap(labels, truth.grid), truth, shown)
    return round(fmean(one.dice or 0.0 for one in measured.values()), 4)


def measure(name: str, shots: int, count: int, points: list[int]) -> dict[str, Any]:
    """The curves of a few queries of one set, and their mean."""
    layout = recognise(DATA / name, need_labels=True)
    loaded = [load_case(case, layout.classes) for case in layout.cases[:shots]]
    begun = time.perf_counter()
    task = Segmenter(make_method(METHOD, SETTINGS), load_backbone(), refinement=Refinement(steps=0)).fit(
        loaded
    )
    fit_s = round(time.perf_counter() - begun, 1)
    cases: dict[str, Any] = {}
    for case in spread(layout.cases[shots:], count):
        volume, truth = load_case(case, layout.classes)
        assert truth is not None
        cases[case.name] = curve(task, volume.sliced_along(task.axis), truth.sliced_along(task.axis), points)
        print(name, case.name, cases[case.name]["dice"], cases[case.name]["teach_s"], flush=True)
    mean = {
        arm: [round(fmean(one["dice"][arm][i] for one in cases.values()), 4) for i in range(len(points))]
        for arm in ("corrected", "taught")
    }
    setting = {"method": METHOD, "settings": SETTINGS, "refined": False, "shots": shots, "fit_s": fit_s}
    return {"set": name, **setting, "points": points, "mean": mean, "cases": cases}


def draw(path: Path) -> None:
    """Write one panel a set."""
    found = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))]
    figure = Figure(figsize=(4.6 * len(found), 3.8), layout="constrained")
    for axis, one in zip(figure.subplots(1, len(found), squeeze=False)[0], found, strict=True):
        for arm, style in (("taught", "o-"), ("corrected", "s--")):
            axis.plot(one["points"], one["mean"][arm], style, label=arm)
        axis.set(
            title=f"{one['set']}, {len(one['cases'])} cases",
            xlabel="corrected slices a case",
            ylabel="mean Dice",
        )
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=100, metadata={"Software": None})


def main() -> None:
    """Measure the sets that are named, then draw all that were measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="*")
    parser.add_argument("--shots", type=int, default=3)
    parser.add_argument("--queries", type=int, default=2)
    parser.add_argument("--points", type=int, nargs="+", default=[0, 1, 2, 4, 8])
    parser.add_argument("--plot", action="store_true")
    call = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in call.sets:
        found = measure(name, call.shots, call.queries, call.points)
        (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(PLOT)


if __name__ == "__main__":
    main()
