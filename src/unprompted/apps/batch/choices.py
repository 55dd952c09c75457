"""What a user chose, as values; reading them costs nothing."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from unprompted.engine.views import NO_VIEWS, Views
from unprompted.errors import UsageError
from unprompted.io.forms import AUTO
from unprompted.registry import DEFAULT_METHOD, METHODS

AXIS_WORDS = {"axial": "S", "coronal": "A", "sagittal": "R"}
AXIS_NAMES = {letter: word for word, letter in AXIS_WORDS.items()}


@dataclass(frozen=True)
class AdaptBudget:
    """What adapting the backbone to the support may cost; neither adapts nothing.

    Attributes:
        seconds: of time.
        steps: of the optimiser, for results that do not depend on the speed of the machine.
    """

    seconds: float = 0.0
    steps: int = 0

    def __bool__(self) -> bool:
        return self.seconds > 0 or self.steps > 0

    def describe(self) -> str:
        """A few words for people."""
        return f"{self.steps} steps" if self.steps else f"{self.seconds:g} s"

    @classmethod
    def of(cls, text: str | None) -> "AdaptBudget":
        """The budget of ``5min``, ``90s``, ``1h`` or ``200steps``; none of None, ``0`` or ``off``.

        Raises:
            UsageError: it is none of these.
        """
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h|steps)", (text or "0s").strip().lower())
        if text in ("0", "off"):
            return cls()
        if found is None or (found[2] == "steps" and "." in found[1]):
            raise UsageError(f"--adapt is {text!r}; give a budget such as 5min, 90s, 1h or 200steps")
        if found[2] == "steps":
            return cls(steps=int(found[1]))
        return cls(seconds=float(found[1]) * {"s": 1, "min": 60, "h": 3600}[found[2]])


@dataclass(frozen=True)
class ModelChoice:
    """What segments, and where it runs.

    Attributes:
        method: registry name.
        settings: settings of the method that differ from its defaults.
        backbone: what `unprompted.load_backbone` takes; None takes the task's own, or the default.
        input_size: side of the model's input in pixels, None for its own.
        device: "auto", "cpu", "gpu", "cuda:1", "mps".
        dtype: "float32" or "bfloat16".
        memory_pool: side of the squares of places whose memory is averaged; 1 for none.
        seed: decides everything random.
        views: test-time choices; a fitted task has its own.
        adapt: budget for adapting the backbone to the support.
        refine: whether masks are refined by a small network trained on the support.
        adapters: a fitted task whose trained weights the backbone gets.
    """

    method: str = DEFAULT_METHOD
    settings: Mapping[str, Any] = field(default_factory=dict)
    backbone: str | None = None
    input_size: int | None = None
    device: str = "auto"
    dtype: str = "float32"
    memory_pool: int = 1
    seed: int = 0
    views: Views = NO_VIEWS
    adapt: AdaptBudget = field(default_factory=AdaptBudget)
    refine: bool = True
    adapters: Path | None = None


@dataclass(frozen=True)
class SupportChoice:
    """Which labelled cases to learn from.

    Attributes:
        folder: of any known layout.
        labels: class names or label values to segment; empty for all.
        axis: slice axis "S", "A" or "R"; None takes the axis of largest spacing.
        shots: use the first cases by name only; None for all.
        sparse: slices without any label are unlabelled rather than background.
        train: more labelled cases, to train the backbone on; they do not go to memory.
        patients: regular expression of the part of a case name that names the patient; empty where every
            case is a patient of its own.
    """

    folder: Path
    labels: tuple[str, ...] = ()
    axis: str | None = None
    shots: int | None = None
    sparse: bool = False
    train: Path | None = None
    patients: str = ""

    def __post_init__(self) -> None:
        if self.shots is not None and self.shots < 1:
            raise UsageError(f"--shots is {self.shots}; at least 1 case is needed")


@dataclass(frozen=True)
class Job:
    """One run over a folder.

    Attributes:
        queries: folder or file to segment.
        output: folder of the results.
        model: what segments.
        learn_from: labelled cases, or the folder of a fitted task.
        overwrite: replace results that are there.
        explain: write which support every slice was given.
        round_trip: predict Dice by the way back to labelled cases too, which costs time.
        max_memory: bytes of main memory that the run may hold; None for no limit.
        devices: where workers run, in turn; empty for the device of the model alone.
        given_workers: how many models work at once; None takes one a device.
        ray: address of a Ray cluster that does the work; None stays on this machine.
        series: which DICOM series, a word as `Series.is_called` takes it; None for all.
        form: of the results, a word of `unprompted.io.forms.FORMS`.
        review: keep what the review page needs, the fitted task included.
    """

    queries: Path
    output: Path | str
    model: ModelChoice
    learn_from: SupportChoice | Path
    overwrite: bool = False
    explain: bool = False
    round_trip: bool = False
    max_memory: int | None = None
    devices: tuple[str, ...] = ()
    given_workers: int | None = None
    ray: str | None = None
    series: str | None = None
    form: str = AUTO
    review: bool = False

    def __post_init__(self) -> None:
        if self.given_workers is not None and self.given_workers < 1:
            raise UsageError(f"--workers is {self.given_workers}; at least 1 is needed")
        if self.max_memory is not None and (self.workers > 1 or self.ray is not None):
            raise UsageError("--max-memory limits one worker; leave --workers and --ray out, or the limit")
        if self.ray is not None and len(self.devices) > 1:
            raise UsageError("a cluster places its workers itself; name one --device, or none, with --ray")

    @property
    def workers(self) -> int:
        """How many models work at once on this machine."""
        return self.given_workers or max(1, len(self.devices))


class Watcher(Protocol):
    """Whoever follows a run: a terminal, a web page, nobody."""

    def say(self, topic: str, text: str) -> None:
        """One line for people, under a topic of one word."""
        ...

    def progress(self, what: str, done: float, of: float) -> None:
        """How far one thing is."""
        ...


class Unwatched:
    """Nobody follows."""

    def say(self, topic: str, text: str) -> None:
        """Say nothing."""

    def progress(self, what: str, done: float, of: float) -> None:
        """Show nothing."""


def axis_letter(word: str | None) -> str | None:
    """The slice axis "S", "A" or "R" of a letter or of the words axial, coronal and sagittal.

    Raises:
        UsageError: it is none of them.
    """
    if word is None:
        return None
    letter = AXIS_WORDS.get(word.lower(), word.upper())
    if letter not in AXIS_NAMES:
        raise UsageError(f"slice axis {word!r} is unknown; use S (axial), A (coronal) or R (sagittal)")
    return letter


def settings_of_call(pairs: Sequence[str], file: Path | None, method: str) -> dict[str, Any]:
    """Settings from a TOML file and from ``name=value`` texts, which win.

    The file holds settings at its top, or in a table named after the method.

    Raises:
        UsageError: the file cannot be read, or a text has no equals sign.
    """
    settings: dict[str, Any] = {}
    if file is not None:
        try:
            entries = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"--settings {file}: {error}") from error
        settings |= (
            entries[method] if method in entries else {k: entries[k] for k in entries if k not in METHODS}
        )
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"--set takes name=value, got {pair!r}")
        settings[name.strip().replace("-", "_")] = value.strip()
    return settings
