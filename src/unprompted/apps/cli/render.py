"""Everything the command line prints: results on stdout, progress and errors on stderr."""

import json
import logging
import sys
import warnings
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from unprompted.apps.batch.outcome import Outcome
from unprompted.datasets.pairing import listed

if TYPE_CHECKING:
    from unprompted.evaluation.estimate import Estimate, ExpectedDice

_LOWEST = 3  # cases named at the end of a run
_WIDE = 160  # columns where no terminal says how many it has


class Screen:
    """Prints lines, tables and progress; used as a context, so that a progress bar never stays behind.

    Args:
        quiet: print errors only.
        verbose: log what the package does.
        debug: log everything.
    """

    def __init__(self, quiet: bool = False, verbose: bool = False, debug: bool = False) -> None:
        self.quiet = quiet
        self._out = _console(sys.stdout)
        self._progress: Progress | None = None
        self._bars: dict[str, TaskID] = {}
        level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
        logging.getLogger("unprompted").setLevel(level)
        for library in ("pydicom", "highdicom"):  # their warnings quote values, which may name the patient
            logging.getLogger(library).setLevel(logging.ERROR)
            warnings.filterwarnings("ignore", module=library)

    def __enter__(self) -> "Screen":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def say(self, topic: str, text: str) -> None:
        """One line, its topic in a column of its own."""
        if not self.quiet:
            self._print(f"{topic:<11}{text}")

    def progress(self, what: str, done: float, of: float) -> None:
        """Draw a bar with the time left, on a terminal only."""
        if self.quiet or not sys.stderr.isatty():
            return
        if self._progress is None:
            self._progress = _bars()
            self._progress.start()
        if what not in self._bars:
            for bar in self._bars.values():  # one thing at a time
                self._progress.remove_task(bar)
            self._bars = {what: self._progress.add_task(what, total=of)}
        self._progress.update(self._bars[what], completed=done, total=of)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table; all columns but the first are aligned to the right."""
        if self.quiet:
            return
        table = Table(box=None, pad_edge=False)
        for number, column in enumerate(columns):
            table.add_column(column, justify="right" if number else "left", overflow="fold")
        for row in rows:
            table.add_row(*row)
        self._stop()
        self._out.print(table)
        self._out.print()

    def listing(self, title: str, rows: Iterable[tuple[str, str]]) -> None:
        """Names and what they are, the second column wrapped to the screen."""
        if self.quiet:
            return
        self._out.print(title, style="bold")
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for row in rows:
            table.add_row(*row)
        self._out.print(table)
        self._out.print()

    def json(self, content: Any) -> None:
        """JSON for programs, whatever --quiet says."""
        sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def finished(self, outcomes: Sequence[Outcome], elapsed_s: float, folder: object) -> None:
        """The one line that sums up a run over a folder."""
        written = [outcome for outcome in outcomes if outcome.status == "written"]
        before = sum(outcome.status == "finished before" for outcome in outcomes)
        told = [outcome for outcome in outcomes if outcome.predicted_dice is not None]
        parts = [f"{len(written)} of {len(outcomes)} cases segmented"]
        if before:
            parts.append(f"{before} finished before")
        if written:
            seconds = sum(outcome.elapsed_s for outcome in written) / len(written)
            parts.append(f"{seconds:.1f} s a case, {elapsed_s:.0f} s in all")
        self._stop()
        if told:
            dices = sorted((outcome.predicted_dice or 0.0, outcome.case) for outcome in told)
            parts.append(f"mean predicted Dice {sum(dice for dice, _ in dices) / len(dices):.2f}")
            self.say("lowest", listed([f"{case} {dice:.2f}" for dice, case in dices[:_LOWEST]]))
        review = [f"{outcome.case} ({', '.join(outcome.review)})" for outcome in outcomes if outcome.review]
        if review:
            self.say("review", f"{len(review)} of {len(outcomes)} cases look wrong: {listed(review)}")
        self.say("done", f"{', '.join(parts)}; results in {folder}")

    def _print(self, text: str) -> None:
        target = self._progress.console if self._progress and sys.stdout.isatty() else self._out
        target.print(text, soft_wrap=True)

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress, self._bars = None, {}


def error(message: str, hint: str = "") -> None:
    """One line on stderr, and one more with what to try."""
    console = _console(sys.stderr)
    console.print(f"error: {' '.join(message.split())}", style="red", soft_wrap=True)
    if hint:
        console.print(hint, soft_wrap=True)


def version(number: str) -> None:
    """The version, alone on its line."""
    sys.stdout.write(f"unprompted {number}\n")


def traceback_of_current_error() -> None:
    """The whole traceback, for ``--debug``."""
    import traceback

    traceback.print_exc(file=sys.stderr)


def estimate(screen: Screen, found: "Estimate") -> None:
    """What to expect of each method, class by class, and which one to take."""
    for one in found.methods:
        rows = [(e.name, _number(e.dice), _range(e), str(e.cases)) for e in (*one.per_class, one.overall)]
        screen.table((one.method, "expected Dice", "95 % range", "cases"), rows)
        screen.say("time", f"{one.method}: {one.fit_s:.0f} s to fit, {one.case_s:.1f} s a case")
    best, others = found.best, [one for one in found.methods if one.method != found.best.method]
    for other in others:
        wins, of = found.wins_of_best(other), len(best.trials)
        screen.say("better", f"{best.method} than {other.method} in {wins} of {of} cases left out")
    screen.say("how", found.how)
    screen.say("done", f"{best.method}: expect a Dice of {best.overall.dice:.2f}; {found.elapsed_s:.0f} s")


def _range(expected: "ExpectedDice") -> str:
    return "-" if expected.low is None else f"{expected.low:.2f} to {expected.high:.2f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _console(stream: Any) -> Console:
    width = None if stream.isatty() else _WIDE
    return Console(file=stream, highlight=False, markup=False, emoji=False, width=width)


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True, highlight=False, markup=False),
        transient=True,
    )
