"""The cells of a recipe put together: those that differ in the choice of the support only are one group."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np

from unprompted.evaluation.benchmark import Done
from unprompted.evaluation.intervals import Interval, bootstrap
from unprompted.evaluation.recipe import NO_BACKBONE, Recipe


@dataclass(frozen=True)
class Group:
    """The cells that differ in the choice of the support only.

    Attributes:
        dataset: as the recipe names it.
        method: as the recipe names it, with the backbone where there are several.
        shots: labelled cases.
        results: one a choice.
        place: of the method in the recipe.
    """

    dataset: str
    method: str
    shots: int
    results: tuple[dict[str, Any], ...]
    place: int = 0

    def mean(self, name: str) -> float | None:
        """A score, averaged over the choices of the support; None unless every choice has it."""
        known = [result["overall"].get(name) for result in self.results]
        return None if None in known else fmean(known)

    def spread(self, name: str) -> float | None:
        """Standard deviation over the choices of the support."""
        known = [result["overall"][name] for result in self.results]
        return stdev(known) if len(known) > 1 and None not in known else None

    def total(self, name: str) -> int:
        """A count, added up over the choices of the support."""
        return sum(result["overall"][name] for result in self.results)

    @property
    def interval(self) -> Interval | None:
        """95 % bootstrap interval of the mean 3D Dice over cases, each averaged over the choices."""
        rows: dict[str, list[list[float | None]]] = {}
        for result in self.results:
            for case, scores in result["cases"].items():
                rows.setdefault(case, []).append(scores["Dice"])
        table = [np.ma.masked_invalid(np.array(found, np.float64)).mean(axis=0) for found in rows.values()]
        return bootstrap(np.array([np.ma.filled(row, np.nan) for row in table], np.float64))[0]

    @property
    def fit_s(self) -> float:
        """Seconds to learn from the support."""
        return fmean(result["fit_s"] for result in self.results)

    @property
    def case_s(self) -> float:
        """Seconds a query."""
        return fmean(result["segment_s"] / result["queries"] for result in self.results)


def groups_of(recipe: Recipe, outcomes: Sequence[Done]) -> list[Group]:
    """The results, put together over the choices of the support, in the order of the recipe."""
    found: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    order = {entry.name: n for n, entry in enumerate(recipe.datasets)}
    methods = {entry.label: n for n, entry in enumerate(recipe.methods)}
    for done in outcomes:
        if done.result is not None:
            result = done.result
            name = result["method"]
            if len(recipe.backbones) > 1 and result["backbone"] != NO_BACKBONE:
                name = f"{name} on {result['backbone']}"
            found.setdefault((result["dataset"], name, result["shots"]), []).append(result)
    groups = [
        Group(*key, tuple(sorted(results, key=lambda r: r["seed"])), methods.get(results[0]["method"], 0))
        for key, results in found.items()
    ]
    return sorted(groups, key=lambda g: (order[g.dataset], g.shots, g.place, g.method))


def methods_of(groups: Sequence[Group]) -> list[str]:
    """The methods, in the order of the recipe."""
    return [method for _, method in sorted({(group.place, group.method) for group in groups})]
