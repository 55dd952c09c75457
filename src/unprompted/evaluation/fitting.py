"""The method of a cell on its support: fitted, named by all that decides what it does, and lent to others."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from unprompted.errors import UsageError
from unprompted.evaluation.code import code_digest
from unprompted.evaluation.recipe import Cell
from unprompted.images import LabelMap, Volume
from unprompted.registry import METHODS, PEERS
from unprompted.support import SupportSet

if TYPE_CHECKING:
    from unprompted.segmenter import FittedSegmenter, Segmenter

_REFINING = "unprompted.refinement.learn"

Progress = Callable[[str, float, float], None]
Labelled = Sequence[tuple[Volume, LabelMap]]


@dataclass(frozen=True, eq=False)
class Answer:
    """What a method says of one query.

    Attributes:
        labels: on the query's own grid.
        predicted: the Dice that each class of the cell is thought to have, None where that is open; None of
            methods that predict none.
    """

    labels: LabelMap
    predicted: tuple[float | None, ...] | None = None


@dataclass(frozen=True, eq=False)
class Fitted:
    """A method after its support.

    Attributes:
        segment: the answer to a query.
        about: what the result should say of the fit, as JSON types.
    """

    segment: Callable[[Volume], Answer]
    about: Mapping[str, Any]


@dataclass(frozen=True)
class Borrowed:
    """Adapters that another method of the recipe has trained on the support of a cell.

    Attributes:
        task: folder of that method's fitted task; None where its training helped nothing and was not kept.
        digest: of the trained backbone.
    """

    task: Path | None
    digest: str | None


def fit(
    cell: Cell,
    support: Labelled,
    patients: Mapping[str, str],
    classes: dict[int, str],
    adapters: Borrowed | None,
    lent: Path,
    progress: Progress,
) -> Fitted:
    """The method of a cell, fitted.

    Args:
        cell: names the method.
        support: labelled cases.
        patients: whom each shows.
        classes: label value to name.
        adapters: those it takes, None for its own or none.
        lent: folder of the tasks that lend theirs.
        progress: called with how far it is.
    """
    if cell.method.peer is not None:
        trained = _peer(cell).fit(support, classes, cell.draw.seed, progress)
        about: dict[str, Any] = {"weights_sha256": None, "training": trained.about}
        return Fitted(lambda volume: Answer(trained.segment(volume)), about)
    from unprompted.quality import QualityCheck

    examples, axis = _sliced(support, patients, classes)
    segmenter = _segmenter(cell, adapters.task if adapters else None)
    fitted = segmenter.fit(examples, axis=axis, seed=cell.draw.seed, progress=progress)
    about = {"weights_sha256": _backbone(cell).digest}
    if adapters is not None:
        about |= {"adapters_sha256": adapters.digest}
    elif fitted.adapted is not None:
        about |= {"adapt_steps": fitted.adapted.steps, "adapt_history": fitted.adapted.history}
    if fitted.refined.history:
        about["refine_history"] = {world or "plain": told for world, told in fitted.refined.history.items()}
    if cell.lends and fitted.adapted is not None:
        _keep(fitted, _place(cell, lent, examples))
    check = QualityCheck.of(fitted, round_trip=False)

    def answer(volume: Volume) -> Answer:
        prediction = fitted.segment(volume)
        told = {judged.name: judged.dice for judged in check.judge(volume, prediction)}
        return Answer(prediction.labels, tuple(told[name] for name in classes.values()))

    return Fitted(answer, about)


def borrowed(
    cell: Cell,
    support: Labelled,
    patients: Mapping[str, str],
    classes: dict[int, str],
    lent: Path,
    progress: Progress,
) -> Borrowed | None:
    """The adapters that a cell takes from another method, trained here unless they lie there.

    Args:
        cell: names the lender.
        support: labelled cases.
        patients: whom each shows.
        classes: label value to name.
        lent: folder of the tasks that lend theirs.
        progress: called with how far it is.

    Raises:
        UsageError: the lender trains nothing.
    """
    if cell.lender is None:
        return None
    from unprompted.task import read_task

    examples, axis = _sliced(support, patients, classes)
    lender = replace(cell, method=cell.lender.model_copy(update={"refine": False}), lender=None)
    task = _place(lender, lent, examples)
    if not (task / "task.json").exists():
        fitted = _segmenter(lender, None).fit(examples, axis=axis, seed=cell.draw.seed, progress=progress)
        if fitted.adapted is None:
            raise UsageError(
                f"{cell.lender.label} has no adapters to give; adapters = names an entry that trains"
            )
        _keep(fitted, task)
    digest = read_task(task)["adapted"]
    gained = digest != _backbone(cell).digest
    return Borrowed(task if gained else None, digest if gained else None)


def identity(cell: Cell) -> dict[str, Any]:
    """Everything that decides what a method does, with every default spelled out."""
    entry = cell.method
    if entry.peer is not None:
        return {"peer": entry.peer, "settings": asdict(_peer(cell))}
    from unprompted.loading import make_method, settings_of
    from unprompted.refinement.settings import Refinement

    own = {
        "method": entry.method,
        "settings": settings_of(make_method(entry.method or "", entry.settings)),
        "views": list(entry.views),
        "adapt_s": entry.adapt_s,
        "adapt_steps": entry.adapt_steps,
        "refine": asdict(Refinement()) if entry.refine else False,
        "weights_sha256": _backbone(cell).digest,
    }
    if entry.memory_pool > 1:  # the number format is told by the digest
        own["memory_pool"] = entry.memory_pool
    if cell.lender is None:
        return own
    return own | {"adapters": _trained_by(replace(cell, method=cell.lender, lender=None))}


def code_of(cell: Cell) -> str:
    """The digest of the code that would run a cell today."""
    entries = [cell.method] if cell.lender is None else [cell.method, cell.lender]
    paths = [PEERS[e.peer] if e.peer is not None else METHODS[e.method or ""] for e in entries]
    refining = [_REFINING] if cell.method.method and cell.method.refine else []
    return code_digest(*(path.split(":")[0] for path in paths), *refining)


def _trained_by(lender: Cell) -> dict[str, Any]:
    """What decides the adapters of a method; refinement comes after them."""
    return {key: value for key, value in identity(lender).items() if key != "refine"}


def _sliced(
    support: Labelled, patients: Mapping[str, str], classes: dict[int, str]
) -> tuple[SupportSet, str | None]:
    """The labelled cases as slices that know their patient, and the slice axis."""
    from unprompted.segmenter import sliced_support

    examples, axis = sliced_support(support, classes, None)
    return examples.of_patients(lambda case: patients[case]), axis


def _place(lender: Cell, lent: Path, support: SupportSet) -> Path:
    """The folder of the task that lends, named by its content: cases, method, seed, weights, code."""
    cases = [support.digest, support.patients]
    key = [_trained_by(lender), lender.draw.seed, cases, code_of(lender)]
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    return lent / f"{lender.method.method}-{digest}"


def _keep(fitted: "FittedSegmenter", folder: Path) -> None:
    """Save a task whole or not at all; it takes the place of an earlier one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as made:
        fitted.save(Path(made) / folder.name)
        shutil.rmtree(folder, ignore_errors=True)
        (Path(made) / folder.name).rename(folder)


def _segmenter(cell: Cell, adapters: Path | None) -> "Segmenter":
    from unprompted import Adaptation, Segmenter, Views
    from unprompted.loading import make_method
    from unprompted.refinement.settings import Refinement

    return Segmenter(
        make_method(cell.method.method or "", cell.method.settings),
        _backbone(cell),
        Views.named(cell.method.views),
        Adaptation(seconds=cell.method.adapt_s, steps=cell.method.adapt_steps),
        Refinement() if cell.method.refine else Refinement(steps=0),
        adapters,
    )


def _peer(cell: Cell) -> Any:
    name = cell.method.peer or ""
    try:
        return PEERS.load(name)(**cell.method.settings)
    except ImportError as error:
        raise UsageError(f'peer {name}: {error}; pip install "unprompted[bench]"') from error
    except TypeError as error:
        raise UsageError(f"peer {name}: {error}") from error


def _backbone(cell: Cell) -> Any:
    return _loaded(cell.backbone, cell.method.dtype, cell.method.memory_pool)


@lru_cache(maxsize=2)
def _loaded(source: str, dtype: str, memory_pool: int) -> Any:
    from unprompted import load_backbone

    return load_backbone(source, dtype=dtype, memory_pool=memory_pool)
