"""The labelled cases of a run, read and cut into slices; and the queries that go with them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unprompted.apps.batch.choices import AXIS_NAMES, SupportChoice, Watcher
from unprompted.datasets.base import CaseFiles, FolderLayout
from unprompted.datasets.folder import load_case, recognise
from unprompted.datasets.pairing import listed
from unprompted.errors import DataRefused, UsageError
from unprompted.images import LabelMap, Volume
from unprompted.intensity import Intensity
from unprompted.support import SupportSet, chosen_classes, classes_of, patient_in


@dataclass(frozen=True, eq=False)
class Learnable:
    """A support as a method takes it.

    Attributes:
        support: labelled slices and the classes to segment.
        axis: slice axis, None for pictures and videos.
        intensity: how stored values become 0..1.
        images: the image files of support and training, resolved; empty where only a fitted task is known.
        training: more labelled slices, to train the backbone on.
    """

    support: SupportSet
    axis: str | None
    intensity: Intensity
    images: frozenset[Path] = field(default=frozenset())
    training: SupportSet | None = None


def read_support(choice: SupportChoice, watch: Watcher) -> Learnable:
    """Read the labelled cases and decide classes, slice axis and intensities.

    Raises:
        DataRefused: a case cannot be used; the message names it.
        UsageError: a wanted class does not exist.
    """
    layout = recognise(choice.folder, need_labels=True)
    cases = layout.cases[: choice.shots]
    watch.say("support", layout.note + _of_all(cases, layout))
    loaded = []
    for number, files in enumerate(cases):
        watch.progress("reading support", number, len(cases))
        loaded.append(_labelled_case(files, layout.classes))
    watch.progress("reading support", len(cases), len(cases))
    classes = chosen_classes(classes_of(loaded), choice.labels)
    from unprompted.segmenter import common_axis  # imports torch, which a wrong folder need not wait for

    axis = choice.axis or common_axis([volume for volume, _ in loaded])
    sliced = [_sliced(volume, labels, axis, choice.sparse) for volume, labels in loaded]
    support = _of_patients(SupportSet.from_cases(sliced, classes), choice, watch)
    more = recognise(choice.train, need_labels=True).cases if choice.train else []
    images = frozenset(files.image.resolve() for files in [*cases, *more])
    training = _training(more, axis, choice, watch) if more else None
    return Learnable(support, axis, Intensity.decide(support), images, training)


def _of_patients(support: SupportSet, choice: SupportChoice, watch: Watcher) -> SupportSet:
    """The support with whom its cases show, where a call says how their names tell."""
    if not choice.patients:
        return support
    support = support.of_patients(lambda case: patient_in(case, choice.patients))
    watch.say("patients", f"{listed(sorted(set(support.patients.values())))}; each is left out whole")
    return support


def _training(
    cases: Sequence[CaseFiles], axis: str | None, choice: SupportChoice, watch: Watcher
) -> SupportSet:
    """Labelled slices to train on, cut as the support."""
    sliced = []
    for number, files in enumerate(cases):
        watch.progress("reading training cases", number, len(cases))
        sliced.append(_sliced(*_labelled_case(files, None), axis, choice.sparse))
    watch.progress("reading training cases", len(cases), len(cases))
    training = _of_patients(SupportSet.from_cases(sliced), choice, watch)
    watch.say("training", f"{len(training.examples)} more labelled slices of {listed(training.cases)}")
    return training


def describe(learnable: Learnable, watch: Watcher) -> None:
    """Say what was decided from the support."""
    support = learnable.support
    watch.say("classes", ", ".join(f"{value} {name}" for value, name in support.classes.items()))
    watch.say("slices", f"{len(support.examples)} labelled of {listed(support.cases)}")
    if learnable.axis is not None:
        watch.say("axis", f"{AXIS_NAMES[learnable.axis]} slices ({learnable.axis}); --axis takes another")
    watch.say("intensity", learnable.intensity.describe())


def choose_queries(
    folder: Path, learnable: Learnable, watch: Watcher, series: str | None = None
) -> list[CaseFiles]:
    """The cases to segment; images that are in the support are left out, and that is said.

    Raises:
        UsageError: every image is in the support.
        DataRefused: the folder is empty or of no known layout.
    """
    layout = recognise(folder, need_labels=False, series=series)
    watch.say("queries", layout.note)
    queries = [case for case in layout.cases if case.image.resolve() not in learnable.images]
    left_out = len(layout.cases) - len(queries)
    if not queries:
        raise UsageError(
            f"all {left_out} cases of {folder} are in the support, so nothing is left to segment; use the "
            "first three as support with --shots 3, or give other images with -i"
        )
    if left_out:
        watch.say("queries", f"{left_out} cases left out because they are the support, {len(queries)} to go")
    twins = sorted({case.name for case in queries} & set(learnable.support.cases))
    if twins:
        watch.say("note", f"segmented though a support case has the same name: {listed(twins)}")
    return queries


def _of_all(cases: Sequence[CaseFiles], layout: FolderLayout) -> str:
    if len(cases) == len(layout.cases):
        return ""
    return f"; support is {listed([case.name for case in cases])}"


def _labelled_case(files: CaseFiles, classes: dict[int, str] | None) -> tuple[Volume, LabelMap]:
    volume, labels = load_case(files, classes)
    if labels is None:
        raise DataRefused(f"{files.name}: the case has no labels")
    return volume, labels


def _sliced(volume: Volume, labels: LabelMap, axis: str | None, sparse: bool) -> tuple[Volume, LabelMap]:
    if volume.axis != "t":  # a video has frames, not slices
        volume, labels = volume.sliced_along(axis), labels.sliced_along(axis)
    if sparse and labels.labelled is None:
        labels = labels.only_slices_with_labels()
    return volume, labels
