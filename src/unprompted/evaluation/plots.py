"""Dice against labelled cases, and Dice against seconds, one panel a dataset."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from unprompted.evaluation.groups import Group
from unprompted.io.atomic import replacing

Draw = Callable[[Any, list[Group], str], None]


def draw_plots(groups: Sequence[Group], score: str, folder: Path, name: str) -> list[Path]:
    """Write the plots of a report; that against shots only where there are several numbers of them.

    Args:
        groups: what is shown.
        score: name of the Dice to show.
        folder: of the PNG files.
        name: of the report.
    """
    shown = [group for group in groups if group.mean(score) is not None]
    kinds: list[tuple[str, Draw]] = [("seconds", _against_seconds)]
    if len({group.shots for group in shown}) > 1:
        kinds.append(("shots", _against_shots))
    return [_panels(shown, score, draw, folder / f"{name}-{kind}.png") for kind, draw in kinds if shown]


def _panels(groups: Sequence[Group], score: str, draw: Draw, path: Path) -> Path:
    datasets = list(dict.fromkeys(group.dataset for group in groups))
    figure = Figure(figsize=(6 * len(datasets), 5), layout="constrained")
    axes = figure.subplots(1, len(datasets), squeeze=False)[0]
    for axis, dataset in zip(axes, datasets, strict=True):
        draw(axis, [group for group in groups if group.dataset == dataset], score)
        axis.set(title=dataset, ylim=(0, 1))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("Dice")
    with replacing(path) as partial:
        figure.savefig(partial, dpi=100, metadata={"Software": None})
    return path


def _against_seconds(axis: Any, groups: list[Group], score: str) -> None:
    for group in groups:
        seconds = max(group.fit_s + group.case_s, 0.1)
        (dot,) = axis.plot(seconds, group.mean(score), "o")
        axis.annotate(
            f"{group.method} ({group.shots})", (seconds, group.mean(score)), (4, 3),
            textcoords="offset points", fontsize=7, color=dot.get_color(),
        )  # fmt: skip
    axis.set(xscale="log", xlabel="seconds to the first segmented case (labelled cases in brackets)")


def _against_shots(axis: Any, groups: list[Group], score: str) -> None:
    for method in dict.fromkeys(group.method for group in groups):
        line = sorted((g.shots, g.mean(score) or 0.0, g.spread(score) or 0.0)
                      for g in groups if g.method == method)  # fmt: skip
        shots, dices, spreads = zip(*line, strict=True)
        axis.errorbar(shots, dices, yerr=spreads, marker="o", capsize=3, label=method)
    axis.set(xlabel="labelled cases", xticks=sorted({group.shots for group in groups}))
    axis.legend(fontsize=7)
