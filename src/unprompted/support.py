"""The labelled examples a method learns from."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unprompted.errors import EmptySupport, GeometryMismatch, UsageError
from unprompted.geometry import Grid
from unprompted.images import LabelMap, Volume


@dataclass(frozen=True, eq=False)
class Example:
    """One labelled slice, image or frame.

    Attributes:
        image: ``(H, W)`` or ``(H, W, 3)`` float32 as stored in the file.
        labels: ``(H, W)`` integers, 0 is background.
        case: which case it was taken from; examples of one case share a patient.
        position: slice index inside its case.
        depth: number of slices of its case.
        in_mm: whether the case has a physical spacing; False for photographs and video frames.
        spacing: distance between neighbours along ``(d, h, w)`` of its case, millimetres if `in_mm`;
            None where it is not known.
        patient: whom the case shows; empty where it is the only case of its patient.
        window: the stored values that a scaling by percentiles takes for 0 and 1 in the whole case; None
            takes those of the examples of the case.
    """

    image: NDArray[np.float32]
    labels: NDArray[np.uint8] | NDArray[np.uint16]
    case: str
    position: int = 0
    depth: int = 1
    in_mm: bool = True
    spacing: tuple[float, float, float] | None = None
    patient: str = ""
    window: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.image.shape[:2] != self.labels.shape:
            raise GeometryMismatch(
                f"{self.case}, slice {self.position}: image {self.image.shape[:2]} and labels "
                f"{self.labels.shape} differ in size; store the label on the grid of its image"
            )


@dataclass(frozen=True, eq=False)
class SupportSet:
    """Labelled examples and the classes to segment; every class has at least one example.

    Examples are kept sorted by case and position, so the order of files never matters.
    """

    examples: tuple[Example, ...]
    classes: dict[int, str]

    def __post_init__(self) -> None:
        if not self.examples:
            raise EmptySupport("the support holds no labelled slice; label at least one and try again")
        if not self.classes:
            raise EmptySupport("the support labels hold background only; label at least one structure")
        present = {int(v) for e in self.examples for v in np.unique(e.labels)}
        missing = [f"{name} ({value})" for value, name in self.classes.items() if value not in present]
        if missing:
            raise EmptySupport(
                f"no support case shows {', '.join(missing)}; label it in one case or leave it out "
                "with --labels"
            )
        ordered = tuple(sorted(self.examples, key=lambda e: (e.case, e.position)))
        object.__setattr__(self, "examples", ordered)
        object.__setattr__(self, "classes", dict(sorted(self.classes.items())))

    @classmethod
    def from_cases(
        cls, cases: Sequence[tuple[Volume, LabelMap]], classes: dict[int, str] | None = None
    ) -> "SupportSet":
        """Take every labelled slice of the given cases.

        Args:
            cases: images with their labels, on equal grids.
            classes: label value to name; None takes the names of the label maps and, for values
                without a name, ``"label 3"`` and so on.

        Raises:
            GeometryMismatch: an image and its labels lie on different grids.
            EmptySupport: a class has no labelled voxel.
        """
        examples: list[Example] = []
        for volume, label_map in cases:
            if not volume.grid.same_space(label_map.grid):
                raise GeometryMismatch(
                    f"{volume.name}: the image has {volume.grid.describe()} but its labels have "
                    f"{label_map.grid.describe()}; resample the labels onto the image (nearest neighbour)"
                )
            labelled = label_map.labelled
            grid = volume.grid
            depth, where = grid.shape[0], (grid.in_mm, grid.spacing)
            examples.extend(
                Example(volume.voxels[d], label_map.labels[d], volume.name, d, depth, *where)
                for d in range(depth)
                if labelled is None or labelled[d]
            )
        return cls(tuple(examples), classes or classes_of(cases))

    def adding(self, *examples: Example) -> "SupportSet":
        """A support set that holds the given examples too; one of the same case and slice is replaced."""
        new = {(e.case, e.position) for e in examples}
        kept = [e for e in self.examples if (e.case, e.position) not in new]
        return replace(self, examples=(*kept, *examples))

    @property
    def cases(self) -> tuple[str, ...]:
        """Names of the cases, sorted."""
        return tuple(sorted({e.case for e in self.examples}))

    @property
    def patients(self) -> dict[str, str]:
        """Whom each case shows, by case."""
        return {e.case: e.patient or e.case for e in self.examples}

    def of_patients(self, patient_of: Callable[[str], str]) -> "SupportSet":
        """The same examples, knowing whom their cases show: splits then leave whole patients out."""
        return replace(self, examples=tuple(replace(e, patient=patient_of(e.case)) for e in self.examples))

    def restricted(self, examples: Sequence[Example]) -> "SupportSet":
        """Some of the examples only, and the classes that those show.

        Raises:
            EmptySupport: they show no class.
        """
        present = {int(v) for e in examples for v in np.unique(e.labels)}
        return SupportSet(tuple(examples), {v: n for v, n in self.classes.items() if v in present})

    @property
    def digest(self) -> str:
        """SHA-256 over classes, images and labels; independent of file names and their order."""
        parts = []
        for example in self.examples:
            part = hashlib.sha256(repr((example.image.shape, example.position)).encode())
            part.update(np.ascontiguousarray(example.image, dtype=np.float32).tobytes())
            part.update(np.ascontiguousarray(example.labels, dtype=np.uint16).tobytes())
            parts.append(part.hexdigest())
        whole = hashlib.sha256(repr(sorted(self.classes.items())).encode())
        whole.update("".join(sorted(parts)).encode())
        return whole.hexdigest()


def patient_in(case: str, pattern: str) -> str:
    """The part of a case name that names the patient.

    Args:
        case: its name.
        pattern: regular expression of that part; empty where every case is a patient of its own.

    Raises:
        UsageError: the pattern is nowhere in the name, or is none.
    """
    try:
        found = re.search(pattern, case) if pattern else None
    except re.error as error:
        raise UsageError(f"the pattern of patients {pattern!r} is no regular expression: {error}") from error
    if pattern and not (found and found.group()):
        raise UsageError(
            f"the pattern of patients {pattern!r} is nowhere in the case name {case!r}; it must match, in "
            "every case name, the part that names the patient"
        )
    return found.group() if found else case


def stacked(
    examples: Sequence[Example], axis: str | None, classes: Mapping[int, str]
) -> tuple[Volume, LabelMap]:
    """Labelled slices of one case, in order, as a volume of their own with its labels.

    Args:
        examples: of one case.
        axis: the slice axis they were cut along, None for pictures and videos.
        classes: label values that are kept; all others become background.
    """
    first, shape = examples[0], (len(examples), *examples[0].labels.shape)
    spacing = first.spacing or (1.0, 1.0, 1.0)
    grid = Grid.with_spacing(shape, spacing, first.in_mm and first.spacing is not None, axis or "S")
    labels: NDArray[Any] = np.stack([e.labels for e in examples])
    labels[~np.isin(labels, list(classes))] = 0
    volume = Volume(np.stack([e.image for e in examples]), grid, name=first.case)
    return volume, LabelMap(labels, grid, dict(classes))


def classes_of(cases: Sequence[tuple[Volume, LabelMap]]) -> dict[int, str]:
    """All classes that are named or found in the labels, by value; ``"label 3"`` where one has no name."""
    names: dict[int, str] = {}
    for _, label_map in cases:
        names.update(label_map.classes)
    values = {int(v) for _, label_map in cases for v in np.unique(label_map.labels)} - {0}
    return {v: names.get(v, f"label {v}") for v in sorted(values | set(names))}


def chosen_classes(classes: Mapping[int, str], wanted: Sequence[str]) -> dict[int, str]:
    """The classes of the given names or label values; all where none is given.

    Raises:
        UsageError: there is no such class.
    """
    if not wanted:
        return dict(classes)
    by_name = {name.casefold(): value for value, name in classes.items()}
    chosen: dict[int, str] = {}
    for word in wanted:
        value = by_name.get(word.casefold(), int(word) if word.isdecimal() else -1)
        if value not in classes:
            known = ", ".join(f"{v} {name}" for v, name in sorted(classes.items()))
            raise UsageError(f"no class is called {word!r}; the labels have {known}")
        chosen[value] = classes[value]
    return dict(sorted(chosen.items()))
