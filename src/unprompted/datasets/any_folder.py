"""Your own labelled folder, of any layout that ``unprompted segment -s`` takes, as a dataset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from unprompted.datasets.base import CaseFiles, FolderLayout
from unprompted.datasets.folder import load_case, recognise
from unprompted.errors import DataRefused, UsageError
from unprompted.images import LabelMap, Volume
from unprompted.support import patient_in


@dataclass(frozen=True)
class AnyFolder:
    """A folder as it is, recognised like the support of ``unprompted segment``.

    Attributes:
        root: the folder.
        names: label value to class name; empty takes those the folder gives.
        patient_pattern: regular expression whose match in a case name is the patient; empty where every
            case is a patient of its own.
    """

    root: Path
    names: Mapping[str, str] = field(default_factory=dict)
    patient_pattern: str = ""
    licence: ClassVar[str] = "yours"
    obtain: ClassVar[str] = "it is on your disk"

    @cached_property
    def _layout(self) -> FolderLayout:
        return recognise(self.root, need_labels=True)

    @property
    def classes(self) -> dict[int, str]:
        """Label value to class name; empty where nobody names them."""
        return {int(value): name for value, name in self.names.items()} or self._layout.classes or {}

    def cases(self) -> Sequence[str]:
        """Names of all cases, sorted."""
        return tuple(sorted(case.name for case in self._layout.cases))

    def load(self, case: str) -> tuple[Volume, LabelMap]:
        """One case with its labels.

        Raises:
            UsageError: there is no such case.
        """
        files: dict[str, CaseFiles] = {found.name: found for found in self._layout.cases}
        if case not in files:
            raise UsageError(f"{self.root} has no case {case!r}; it has {', '.join(self.cases())}")
        volume, labels = load_case(files[case], self.classes or None)
        if labels is None:
            raise DataRefused(f"{case}: the case has no labels")
        return volume, labels

    def patient(self, case: str) -> str:
        """The part of the case name that names the patient.

        Raises:
            UsageError: the pattern is nowhere in the name.
        """
        return patient_in(case, self.patient_pattern)

    def held_out(self) -> Sequence[str]:
        """There is no official split."""
        return ()
