"""The figures of docs/concepts.md, of generated patients.

    python benchmarks/docs_figures.py

Writes docs/images/concept-*.webp; some minutes on a CPU. Refinement is shortened, as the page says.
"""

import io
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, Patch
from numpy.typing import NDArray
from PIL import Image

from unprompted import LabelMap, Prediction, Segmenter, Volume
from unprompted.datasets.synthetic import Synthetic
from unprompted.palette import hex_of
from unprompted.refinement.settings import Refinement

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
SHORT = Refinement(steps=300, steps_per_class=20)
INK, FAINT = "#333344", "#8890a0"
matplotlib.rcParams.update({"font.size": 10, "text.color": INK, "axes.edgecolor": FAINT})

Case = tuple[Volume, LabelMap]


def save(figure: Figure, name: str) -> None:
    """Write a figure of the docs, small."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=140, facecolor="white", bbox_inches="tight", pad_inches=0.1)
    plt.close(figure)
    with Image.open(drawn) as image:
        image.convert("RGB").save(IMAGES / f"concept-{name}.webp", quality=88, method=6)


def show(at: Axes, volume: Volume, position: int, labels: NDArray[np.uint8] | None, title: str = "") -> None:
    """One slice in the usual window, with its labels as filled outlines."""
    at.imshow(volume.voxels[position], cmap="gray", vmin=-160, vmax=240)
    for value in range(1, 6) if labels is not None else ():
        mask = labels[position] == value
        if mask.any():
            at.contourf(mask, levels=[0.5, 1.5], colors=[hex_of(value)], alpha=0.45)
            at.contour(mask, levels=[0.5], colors=[hex_of(value)], linewidths=1.2)
    at.set_title(title, fontsize=9, color=INK, pad=4)
    at.set_axis_off()


def arrow(
    figure: Figure,
    begin: Axes,
    end: Axes,
    start: tuple[float, float] = (1.03, 0.5),
    stop: tuple[float, float] = (-0.03, 0.5),
    bend: float = 0.0,
) -> None:
    """An arrow between two pictures, in their own coordinates of 0 to 1."""
    figure.add_artist(
        ConnectionPatch(
            start,
            stop,
            "axes fraction",
            "axes fraction",
            axesA=begin,
            axesB=end,
            connectionstyle=f"arc3,rad={bend}",
            arrowstyle="-|>",
            mutation_scale=14,
            color=FAINT,
            linewidth=1.6,
        )
    )


def heading(at: Axes, words: str, middle: float = 0.5) -> None:
    """Words over a group of pictures."""
    at.annotate(words, (middle, 1.22), xycoords="axes fraction", ha="center", fontsize=10, weight="bold")


def support_and_query(support: list[Case], query: Volume, found: Prediction) -> None:
    """Labelled slices, a slice without labels, and what comes of it."""
    figure = plt.figure(figsize=(9, 3.3))
    places = figure.add_gridspec(
        2, 6, width_ratios=[1, 1, 0.25, 2, 0.2, 2], wspace=0.06, hspace=0.2, left=0, right=1, bottom=0, top=1
    )
    for row, (volume, labels) in enumerate(support):
        for column, position in enumerate((8, 14)):
            at = figure.add_subplot(places[row, column])
            show(at, volume, position, labels.labels, f"case {'ab'[row]}, slice {position + 1}")
            if (row, column) == (0, 0):
                heading(at, "support", 1.03)
    asked, answered = figure.add_subplot(places[:, 3]), figure.add_subplot(places[:, 5])
    show(asked, query, 14, None, "query")
    show(answered, query, 14, found.labels.labels, "result: all classes in one pass")
    arrow(figure, at, asked, start=(1.05, 1.1))
    arrow(figure, asked, answered)
    names = [Patch(color=hex_of(value), label=name) for value, name in found.labels.classes.items()]
    figure.legend(handles=names, loc="upper center", ncols=5, frameon=False, bbox_to_anchor=(0.5, -0.02))
    save(figure, "support")


def step(support: list[Case], query: Volume, found: Prediction, position: int = 16) -> None:
    """What one frame is given from both memories, its mask, and where that goes."""
    best: dict[tuple[int, int], float] = {}
    for choice in found.chosen[position]:
        key = (choice.case, choice.position)
        best[key] = max(choice.score, best.get(key, choice.score))
    retrieved = sorted(best, key=lambda key: -best[key])[:3]
    figure = plt.figure(figsize=(9, 3.7))
    ratios = [1, 1, 1, 0.4, 1.7, 0.3, 1.7]
    places = figure.add_gridspec(
        2, 7, width_ratios=ratios, wspace=0.06, hspace=0.5, left=0, right=1, bottom=0, top=1
    )
    now, drawn = figure.add_subplot(places[:, 4]), figure.add_subplot(places[:, 6])
    show(now, query, position, None, f"the frame at hand: slice {position + 1}")
    show(drawn, query, position, found.labels.labels, "its mask")
    above = [figure.add_subplot(places[0, column]) for column in range(3)]
    for at, (case, where) in zip(above, retrieved, strict=True):
        volume, labels = support[case]
        show(at, volume, where, labels.labels, f"case {'ab'[case]}, slice {where + 1}")
    below = [figure.add_subplot(places[1, column]) for column in range(3)]
    for at, where in zip(below, range(position - 3, position), strict=True):
        show(at, query, where, found.labels.labels, f"slice {where + 1}")
    heading(above[1], "memory of the support: the slices most like this one")
    heading(below[1], "memory of this case: the frames before")
    arrow(figure, above[2], now, stop=(-0.03, 0.6))
    arrow(figure, below[2], now, stop=(-0.03, 0.4))
    arrow(figure, now, drawn)
    arrow(figure, drawn, below[2], start=(0.5, -0.03), stop=(1.04, 0.12), bend=-0.25)
    now.annotate(
        "remembered for the next frame", (0.75, -0.58), xycoords="axes fraction", ha="center", color=FAINT
    )
    save(figure, "step")


def refinement(query: Case, before: Prediction, after: Prediction) -> None:
    """One slice before and after, and the truth."""
    volume, truth = query
    figure, places = plt.subplots(1, 4, figsize=(9, 2.7), gridspec_kw={"wspace": 0.06})
    titles = ("image", "mask of the method", "refined", "truth")
    for at, labels, title in zip(places, (None, before.labels, after.labels, truth), titles, strict=True):
        show(at, volume, 14, None if labels is None else labels.labels, title)
    save(figure, "refinement")


def quality(query: Case, found: Prediction, value: int = 3) -> None:
    """The model's own estimate of a class along the slices, the truth, and the slice it trusts least."""
    volume, truth = query
    name = truth.classes[value]
    mine, true = found.labels.labels == value, truth.labels == value
    shown = np.flatnonzero((mine | true).any(axis=(1, 2)))
    iou = (mine & true).sum(axis=(1, 2))[shown] / (mine | true).sum(axis=(1, 2))[shown]
    own = found.quality[shown, value - 1]
    worst = shown[own.argmin()]
    figure = plt.figure(figsize=(9, 2.9))
    places = figure.add_gridspec(1, 3, width_ratios=[2.2, 1, 1], wspace=0.08, left=0, right=1)
    plot = figure.add_subplot(places[0])
    plot.plot(shown + 1, own, color=hex_of(6), marker="o", ms=4, label="quality: what the model thinks")
    plot.plot(shown + 1, iou, color=hex_of(7), marker="o", ms=4, ls="--", label="IoU with the truth")
    plot.axvline(worst + 1, color=FAINT, lw=1, zorder=0)
    plot.set(xlabel="slice", ylim=(0, 1.15), title=name)
    plot.legend(frameon=False, fontsize=9, loc="upper left")
    plot.spines[["top", "right"]].set_visible(False)
    for place, labels, title in zip((1, 2), (found.labels, truth), ("least trusted", "truth"), strict=True):
        only = np.where(labels.labels == value, labels.labels, 0)
        show(figure.add_subplot(places[place]), volume, worst, only, f"{title}: slice {worst + 1}")
    save(figure, "quality")


def main() -> None:
    patients = Synthetic(count=3)
    *support, query = (patients.load(name) for name in patients.cases())
    found = Segmenter("fate-sam", refinement=Refinement(steps=0)).fit(support).segment(query[0])
    support_and_query(support, query[0], found)
    step(support, query[0], found)
    quality(query, found)
    refined = Segmenter("fate-sam", refinement=SHORT).fit(support).segment(query[0])
    refinement(query, found, refined)


if __name__ == "__main__":
    main()
