"""Labelled cases split into what is learned from and what is asked, so that nothing asked is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unprompted.errors import UsageError
from unprompted.images import LabelMap, Volume
from unprompted.support import Example, SupportSet, stacked

Split = Literal["leave-one-out", "split-half"]


@dataclass(frozen=True, eq=False)
class Query:
    """One case that is asked.

    Attributes:
        volume: its labelled slices.
        truth: its labels of the classes that are judged; a method never gets them.
    """

    volume: Volume
    truth: LabelMap


@dataclass(frozen=True, eq=False)
class Fold:
    """One split of the support.

    Attributes:
        support: what is learned from.
        queries: what is asked.
    """

    support: SupportSet
    queries: tuple[Query, ...]


def folds_of(support: SupportSet, axis: str | None, most: int = 10) -> tuple[Split, tuple[Fold, ...]]:
    """Each patient left out once; of a single patient, the lower and the upper half of the slices.

    Halves, not every other slice: neighbours in a volume are nearly equal, so they would flatter. A case
    is judged on the classes it shows, since one it never shows may just not be labelled in it.

    Args:
        support: the labelled cases.
        axis: the slice axis they were cut along.
        most: patients left out; where there are more, as many are taken, evenly spaced by name.

    Raises:
        UsageError: nothing can be left out so that the rest shows a class of it.
    """
    patient_of = support.patients
    names = sorted(set(patient_of.values()))
    chosen: list[list[Example]]
    if len(names) == 1:
        chosen = _halves(support)
    else:
        rows = np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int)
        chosen = [[e for e in support.examples if patient_of[e.case] == names[row]] for row in rows]
    found = [fold for left_out in chosen if (fold := _fold(support, left_out, axis))]
    if not found:
        what = "one slice" if len(support.examples) == 1 else "slices that share no class"
        raise UsageError(
            f"{what} of {', '.join(support.cases[:3])} cannot be split into what is learned from and what "
            "is asked; label one more case to get an estimate"
        )
    return "split-half" if len(names) == 1 else "leave-one-out", tuple(found)


def _halves(support: SupportSet) -> list[list[Example]]:
    """Slices below and above the middle of those that show a class, over all cases."""
    lower: list[Example] = []
    upper: list[Example] = []
    for case in support.cases:
        own = [e for e in support.examples if e.case == case]
        shown = [e.position for e in own if _shows(support, [e])]
        middle = float(np.median(shown)) if len(shown) > 1 else np.inf
        lower += [e for e in own if e.position < middle]
        upper += [e for e in own if e.position >= middle]
    return [lower, upper]


def _fold(support: SupportSet, left_out: Sequence[Example], axis: str | None) -> Fold | None:
    """None where the rest shows no class of what is left out."""
    out = {id(e) for e in left_out}
    rest = [e for e in support.examples if id(e) not in out]
    known = _shows(support, rest)
    queries = []
    for case in sorted({e.case for e in left_out}):
        own = [e for e in left_out if e.case == case]
        judged = {v: name for v, name in known.items() if v in _shows(support, own)}
        if judged:
            queries.append(Query(*stacked(own, axis, judged)))
    return Fold(support.restricted(rest), tuple(queries)) if queries else None


def _shows(support: SupportSet, examples: Sequence[Example]) -> dict[int, str]:
    """The classes of the support that the examples show."""
    present = {int(v) for e in examples for v in np.unique(e.labels)}
    return {value: name for value, name in support.classes.items() if value in present}
