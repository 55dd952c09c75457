"""A matrix of cells: those whose result lies there are skipped, the others run, alone or side by side."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from unprompted.errors import UnpromptedError
from unprompted.evaluation.cells import cell_path, dataset_of, run_cell
from unprompted.evaluation.episodes import Episode, draw_episode
from unprompted.evaluation.fitting import Progress, code_of
from unprompted.evaluation.recipe import Cell, Recipe, cells_of
from unprompted.io.atomic import replacing
from unprompted.launched import die_with_parent

CELLS, PICTURES, LENT = "cells", "worst", "lent"
Finished = Callable[["Done"], None]


@dataclass(frozen=True)
class Planned:
    """A cell with its cases and the file of its result."""

    cell: Cell
    episode: Episode
    path: Path


@dataclass(frozen=True)
class Done:
    """What became of a cell.

    Attributes:
        planned: the cell.
        result: None where it failed.
        problem: why it failed, in one line.
        new: False where the result was there before.
        outdated: the result was made by other code than today's.
    """

    planned: Planned
    result: dict[str, Any] | None
    problem: str = ""
    new: bool = True
    outdated: bool = False


def plan(recipe: Recipe, base: Path, output: Path) -> tuple[list[Planned], list[Done]]:
    """The cells of a recipe with their cases; those that cannot be are given back as failures."""
    planned, failed = [], []
    drawn: dict[Any, Episode] = {}
    for cell in cells_of(recipe, base):
        try:
            key = (cell.dataset.name, cell.draw)
            if key not in drawn:
                drawn[key] = draw_episode(dataset_of(cell), cell.draw)
            planned.append(Planned(cell, drawn[key], cell_path(output / CELLS, cell, drawn[key])))
        except UnpromptedError as error:
            failed.append(Done(Planned(cell, Episode((), (), 0, {}), output), None, str(error)))
    return planned, failed


def run_benchmark(
    planned: Sequence[Planned],
    jobs: int = 1,
    refresh: bool = False,
    run: bool = True,
    progress: Progress = lambda what, done, of: None,
    finished: Finished = lambda done: None,
) -> list[Done]:
    """Run what is missing; every result is written as soon as it is there.

    Args:
        planned: the cells.
        jobs: how many processes run cells side by side.
        refresh: run cells again whose result was made by other code.
        run: whether to run anything; if not, what is missing has no result.
        progress: called with how far a cell is (with one process) or all of them are.
        finished: called with every cell that is done.
    """
    outcomes: list[Done] = []

    def note(done: Done) -> None:
        outcomes.append(done)
        finished(done)

    missing: list[Planned] = []
    for each in planned:
        done = _earlier(each)
        if done is None or (run and refresh and done.outdated):
            missing.append(each)
        else:
            note(done)
    if not run:
        for each in missing:
            note(Done(each, None, problem="not run yet"))
        return outcomes
    for number, done in enumerate(_run_all(missing, jobs, progress), 1):
        note(done)
        progress("cells", number, len(missing))
    return outcomes


def _run_all(missing: Sequence[Planned], jobs: int, progress: Progress) -> Iterator[Done]:
    if jobs <= 1 or len(missing) <= 1:
        for each in missing:
            yield _attempt(each, progress)
        return
    # Spawned, since a forked torch may hang; one cell a process would load the model each time.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=die_with_parent) as pool:
        waiting = [pool.submit(_attempt, each) for each in missing]
        try:
            for future in as_completed(waiting):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _attempt(planned: Planned, progress: Progress = lambda what, done, of: None) -> Done:
    folder = planned.path.parents[1]
    pictures = folder / PICTURES / planned.path.stem
    try:
        result = run_cell(planned.cell, planned.episode, folder / LENT, pictures, progress)
    except (UnpromptedError, ValueError, RuntimeError, TypeError, OSError, ImportError) as error:
        return Done(planned, None, " ".join(f"{type(error).__name__}: {error}".split()))
    with replacing(planned.path) as partial:
        partial.write_text(_as_text(result), encoding="utf-8")
    return Done(planned, result)


def _earlier(planned: Planned) -> Done | None:
    """The result that lies there, None where there is none or it is damaged."""
    try:
        result = json.loads(planned.path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return Done(planned, result, new=False, outdated=result.get("code") != code_of(planned.cell))


def _as_text(result: dict[str, Any]) -> str:
    """JSON with a line a key, and a line a case."""
    lines = []
    for key, value in result.items():
        if key in ("cases", "per_class"):
            inner = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            lines.append(f" {json.dumps(key)}: {{\n{inner}\n }}")
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
