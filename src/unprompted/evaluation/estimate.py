"""What Dice to expect, before the run: every labelled case is segmented from the others.

A run that leaves a case out has one support fewer than the real run will have. Nothing is corrected for
that, so the real run should do a little better.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean, stdev
from typing import Any

from scipy.stats import t as student

from unprompted.errors import UsageError
from unprompted.evaluation.folds import Fold, Split, folds_of
from unprompted.evaluation.metrics import overlaps
from unprompted.images import LabelMap, Volume
from unprompted.loading import load_backbone, method_name
from unprompted.segmenter import Segmenter, sliced_support
from unprompted.support import SupportSet

Progress = Callable[[str, float, float], None]
HOW: dict[Split, str] = {
    "leave-one-out": "each labelled case is segmented from the others, so with one support fewer than the "
    "real run has; the range is Student's 95 % interval of the mean over cases, cut to 0..1",
    "split-half": "one labelled case: its upper half is segmented from its lower half and the other way "
    "round; that tells little about other patients, and gives no range",
}
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class ExpectedDice:
    """What to expect of one class, or of the mean over classes.

    Attributes:
        name: of the class.
        dice: mean over the cases judged, None where none could be.
        low: of the range for that mean, None where fewer than two cases were judged.
        high: of the range.
        cases: judged.
    """

    name: str
    dice: float | None
    low: float | None
    high: float | None
    cases: int


@dataclass(frozen=True)
class Trial:
    """One case left out and segmented.

    Attributes:
        case: its name.
        dice: class name to Dice, of the classes that the case and the rest of the support show.
        elapsed_s: seconds to segment it.
        fit_s: seconds to fit on the others.
    """

    case: str
    dice: dict[str, float]
    elapsed_s: float
    fit_s: float

    @property
    def mean(self) -> float:
        """Mean Dice over its classes."""
        return fmean(self.dice.values())


@dataclass(frozen=True)
class MethodEstimate:
    """What to expect of one method.

    Attributes:
        method: registry name.
        per_class: in the order of the label values.
        overall: over cases of the mean over classes.
        fit_s: mean seconds to fit.
        case_s: mean seconds a case.
        trials: the cases left out.
    """

    method: str
    per_class: tuple[ExpectedDice, ...]
    overall: ExpectedDice
    fit_s: float
    case_s: float
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Estimate:
    """What to expect of a run with this support.

    Attributes:
        split: how cases were left out.
        how: the same in words, with what the ranges are.
        supports: labelled cases of the real run.
        methods: one each, in the order asked.
        elapsed_s: seconds that all of it took.
    """

    split: Split
    how: str
    supports: int
    methods: tuple[MethodEstimate, ...]
    elapsed_s: float

    @property
    def best(self) -> MethodEstimate:
        """The method of highest mean Dice; of equal ones, the first asked."""
        return max(self.methods, key=lambda method: method.overall.dice or 0.0)

    def wins_of_best(self, other: MethodEstimate) -> int:
        """In how many of the cases left out the best method does better than another."""
        return sum(a.mean > b.mean for a, b in zip(self.best.trials, other.trials, strict=True))

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON types, with the name of the best method."""
        return {"best": self.best.method} | asdict(self)


def estimate(
    cases: Sequence[tuple[Volume, LabelMap]] | SupportSet,
    segmenters: Sequence[Segmenter],
    *,
    classes: dict[int, str] | None = None,
    axis: str | None = None,
    patients: Mapping[str, str] | None = None,
    most: int = 10,
    seed: int = 0,
    progress: Progress = lambda what, done, of: None,
) -> Estimate:
    """Leave labelled cases out in turn and segment them from the others.

    No label of a case left out reaches a method, not even through the choice of intensities. A support
    of some labelled slices is judged on those alone, which are likely the slices that show something.

    Args:
        cases: images with their labels, or a support set, as `Segmenter.fit` takes them.
        segmenters: what is compared, not yet fitted.
        classes: as `Segmenter.fit` takes them.
        axis: slice axis; None takes the axis of largest spacing.
        patients: case to patient, where one patient has several cases, which are then left out together;
            None takes those that the support set knows.
        most: patients left out, evenly spaced by name where there are more.
        seed: decides everything random.
        progress: called with what is being done and how far it is.

    Raises:
        UsageError: a single image or slice is labelled, or no segmenter is given.
        EmptySupport: a class has no labelled example.
        GeometryMismatch: an image and its labels lie on different grids.
    """
    if not segmenters:
        raise UsageError("nothing to estimate: give at least one method")
    begun = time.perf_counter()
    support, axis = sliced_support(cases, classes, axis)
    if patients is not None:
        support = support.of_patients(lambda case: patients.get(case, case))
    split, folds = folds_of(support, axis, most)
    found, total = [], len(folds) * len(segmenters)
    for number, segmenter in enumerate(segmenters):
        if isinstance(segmenter.backbone, str):
            segmenter = replace(segmenter, backbone=load_backbone(segmenter.backbone))
        trials: list[Trial] = []
        for row, fold in enumerate(folds):
            progress("estimating", number * len(folds) + row, total)
            trials += _trials(segmenter, fold, axis, seed)
        found.append(_method(segmenter, trials, support, split))
    progress("estimating", total, total)
    elapsed = round(time.perf_counter() - begun, 1)
    return Estimate(split, HOW[split], len(support.cases), tuple(found), elapsed)


def _trials(segmenter: Segmenter, fold: Fold, axis: str | None, seed: int) -> list[Trial]:
    begun = time.perf_counter()
    task = segmenter.fit(fold.support, axis=axis, seed=seed)
    fit_s = time.perf_counter() - begun
    trials = []
    for query in fold.queries:
        prediction, names = task.segment(query.volume), query.truth.classes
        dices = {v: o.dice for v, o in overlaps(prediction.labels, query.truth, names).items()}
        dice = {names[value]: round(found, 4) for value, found in dices.items() if found is not None}
        seconds = prediction.provenance.elapsed_s
        trials.append(Trial(query.volume.name, dice, seconds, round(fit_s, 2)))
    return trials


def _method(
    segmenter: Segmenter, trials: Sequence[Trial], support: SupportSet, split: Split
) -> MethodEstimate:
    method, ranges = segmenter.method, split == "leave-one-out"
    per_class = tuple(
        _expected(name, [t.dice[name] for t in trials if name in t.dice], ranges)
        for name in support.classes.values()
    )
    return MethodEstimate(
        method if isinstance(method, str) else method_name(method),
        per_class,
        _expected("mean of classes", [trial.mean for trial in trials], ranges),
        round(fmean(trial.fit_s for trial in trials), 2),
        round(fmean(trial.elapsed_s for trial in trials), 2),
        tuple(trials),
    )


def _expected(name: str, dices: Sequence[float], ranges: bool) -> ExpectedDice:
    """Mean over cases and, if asked, the range of that mean."""
    if not dices:
        return ExpectedDice(name, None, None, None, 0)
    mean, n = fmean(dices), len(dices)
    if n < 2 or not ranges:
        return ExpectedDice(name, round(mean, 4), None, None, n)
    half = float(student.ppf((1 + _CONFIDENCE) / 2, n - 1)) * stdev(dices) / n**0.5
    return ExpectedDice(
        name, round(mean, 4), round(max(0.0, mean - half), 4), round(min(1.0, mean + half), 4), n
    )
