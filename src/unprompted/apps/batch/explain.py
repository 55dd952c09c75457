"""Which support every slice of a query was given: a table for programs, a contact sheet for people."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unprompted.images import LabelMap, Volume
from unprompted.intensity import Intensity, Scaled
from unprompted.io.atomic import replacing
from unprompted.io.overlay import Panel, matches_png
from unprompted.prediction import Chosen, Prediction
from unprompted.support import Example, SupportSet

FIELDS = ("case", "slice", "class", "rank", "support_case", "support_slice", "copy", "score")
_MOST_SHOWN = 4  # supports beside a slice on the contact sheet


def write_explanation(
    folder: Path,
    volume: Volume,
    labels: LabelMap,
    prediction: Prediction,
    support: SupportSet,
    how: Intensity,
) -> None:
    """Write ``CASE.csv`` and ``CASE.png``; slices count from 1, copy 0 is the support slice itself.

    Args:
        folder: where to write.
        volume: the query cut along the slice axis.
        labels: its labels, cut likewise.
        prediction: what the method said, with the support it chose.
        support: the labelled examples.
        how: the display rule.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / f"{volume.name}.csv") as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        for position, chosen in sorted(prediction.chosen.items()):
            writer.writerows(_rows(volume.name, position, chosen, support))
    panels = _Panels(support, how)
    shown = {position: panels.of(chosen) for position, chosen in prediction.chosen.items()}
    matches_png(volume, labels, shown, folder / f"{volume.name}.png", how)


def _rows(
    case: str, position: int, chosen: Sequence[Chosen], support: SupportSet
) -> list[tuple[object, ...]]:
    names, ranks = list(support.classes.values()), [0] * len(support.classes)
    rows: list[tuple[object, ...]] = []
    for one in chosen:
        ranks[one.object] += 1
        origin = support.cases[one.case], one.position + 1, one.copy
        rank = ranks[one.object]
        rows.append((case, position + 1, names[one.object], rank, *origin, float(f"{one.score:.6g}")))
    return rows


class _Panels:
    """Support slices as pictures, each case scaled once.

    Args:
        support: the labelled examples.
        how: the display rule.
    """

    def __init__(self, support: SupportSet, how: Intensity) -> None:
        self._support = support
        self._how = how
        self._examples: dict[tuple[int, int], tuple[Example, Scaled]] = {}

    def of(self, chosen: Sequence[Chosen]) -> list[Panel]:
        """The supports of one slice, those of most classes first, each with the classes it was chosen for."""
        objects: dict[tuple[int, int, int], list[Chosen]] = {}
        for one in chosen:
            objects.setdefault((one.case, one.position, one.copy), []).append(one)
        ordered = sorted(objects.values(), key=lambda group: (-len(group), -group[0].score))
        return [self._panel(group) for group in ordered[:_MOST_SHOWN]]

    def _panel(self, group: Sequence[Chosen]) -> Panel:
        one = group[0]
        example, picture = self._example(one.case, one.position)
        values = list(self._support.classes)
        asked = np.isin(example.labels, [values[other.object] for other in group])
        name = example.case if len(example.case) <= 16 else example.case[:15] + "…"
        copied = f" copy {one.copy}" if one.copy else ""
        title = f"{name} {one.position + 1}{copied}: {one.score:.3g}"
        return Panel(title, picture, np.where(asked, example.labels, 0))

    def _example(self, case: int, position: int) -> tuple[Example, Scaled]:
        if (case, position) not in self._examples:
            name = self._support.cases[case]
            own = [example for example in self._support.examples if example.case == name]
            for example, picture in zip(own, self._how.apply_case([e.image for e in own]), strict=True):
                self._examples[case, example.position] = example, picture
        return self._examples[case, position]
