"""Dice against labelled cases, and Dice against seconds, one panel a dataset."""

from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from unprompted.evaluation.groups import Group, methods_of
from unprompted.io.atomic import replacing

Look = dict[str, Any]  # colour and marker of a method
Draw = Callable[[Any, list[Group], str, dict[str, Look]], None]

_COLUMNS = 2  # panels side by side
_MARKERS = "os^DvP*X"
_COLOURS = 10  # of matplotlib, C0 to C9


def draw_plots(groups: Sequence[Group], score: str, folder: Path, name: str) -> list[Path]:
    """Write the plots of a report; that against shots only where a dataset has several numbers of them.

    Args:
        groups: what is shown.
        score: name of the Dice to show.
        folder: of the PNG files.
        name: of the report.
    """
    shown = [group for group in groups if group.mean(score) is not None]
    kinds: list[tuple[str, Draw]] = [("seconds", _against_seconds)]
    if len({(group.dataset, group.shots) for group in shown}) > len({group.dataset for group in shown}):
        kinds.append(("shots", _against_shots))
    return [_panels(shown, score, draw, folder / f"{name}-{kind}.png") for kind, draw in kinds if shown]


def looks_of(methods: Sequence[str]) -> dict[str, Look]:
    """Colour and marker of every method, the same in all panels; no two share both up to 80 methods."""
    return {
        method: {"color": f"C{n % _COLOURS}", "marker": _MARKERS[(n + n // _COLOURS) % len(_MARKERS)]}
        for n, method in enumerate(methods)
    }


def _panels(groups: Sequence[Group], score: str, draw: Draw, path: Path) -> Path:
    datasets = list(dict.fromkeys(group.dataset for group in groups))
    looks = looks_of(methods_of(groups))
    columns = min(_COLUMNS, len(datasets))
    rows = ceil(len(datasets) / columns)
    figure = Figure(figsize=(5 * columns + 2.5, 4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, dataset in zip(axes, datasets, strict=False):
        draw(axis, [group for group in groups if group.dataset == dataset], score, looks)
        axis.set(title=dataset, ylabel="Dice", ylim=(0, 1))
        axis.grid(alpha=0.3)
    for axis in axes[len(datasets) :]:
        axis.remove()
    marks = [axes[0].plot([], [], linestyle="", label=method, **look)[0] for method, look in looks.items()]
    figure.legend(handles=marks, loc="outside right upper", fontsize=8, frameon=False)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=100, metadata={"Software": None})
    return path


def _against_seconds(axis: Any, groups: list[Group], score: str, looks: dict[str, Look]) -> None:
    several = len({group.shots for group in groups}) > 1
    for group in groups:
        place = (max(group.fit_s + group.case_s, 0.1), group.mean(score))
        axis.plot(*place, linestyle="", **looks[group.method])
        if several:
            axis.annotate(str(group.shots), place, (5, 3), textcoords="offset points", fontsize=7)
    shots = "number: labelled cases" if several else f"{groups[0].shots} labelled"
    axis.set(xscale="log", xlabel=f"seconds to the first segmented case ({shots})")


def _against_shots(axis: Any, groups: list[Group], score: str, looks: dict[str, Look]) -> None:
    for method in dict.fromkeys(group.method for group in groups):
        line = sorted((g.shots, g.mean(score) or 0.0, g.spread(score) or 0.0)
                      for g in groups if g.method == method)  # fmt: skip
        shots, dices, spreads = zip(*line, strict=True)
        axis.errorbar(shots, dices, yerr=spreads, capsize=3, **looks[method])
    axis.set(xlabel="labelled cases", xticks=sorted({group.shots for group in groups}))
