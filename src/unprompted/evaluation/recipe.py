"""A benchmark as a TOML file: which methods meet which cases, and how the result counts."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from unprompted.errors import UsageError
from unprompted.evaluation.episodes import Draw, Slices
from unprompted.registry import DATASETS, DEFAULT_BACKBONE, METHODS, PEERS

_FOLDER = next(name for name, path in DATASETS.items() if path.endswith(":AnyFolder"))
NO_BACKBONE = "none"  # of peers


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetEntry(_Table):
    """One dataset of a recipe.

    Attributes:
        name: shown, and part of a cell's name.
        kind: registry name.
        path: of its files, below the recipe's ``data``; None for generated ones.
        settings: of the dataset.
        shots: in place of the recipe's.
        seeds: in place of the recipe's.
        queries: in place of the recipe's.
        labels: only these classes, by name or value; empty for all.
        official: the split of the dataset's authors: support from one side, queries from the other.
        mm: False where the voxel size of the files is not the true one.
    """

    name: str
    kind: str = _FOLDER
    path: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    shots: tuple[int, ...] | None = None
    seeds: tuple[int, ...] | None = None
    queries: int | None = Field(None, ge=1)
    labels: tuple[str, ...] = ()
    official: bool = False
    mm: bool = True


class MethodEntry(_Table):
    """One method of a recipe: one of ours, or a peer.

    Attributes:
        name: shown; the registry name where none is given.
        method: registry name of one of ours.
        peer: registry name of a peer.
        settings: those that differ from the defaults.
        views: test-time choices of ours.
        adapt_s: seconds of adaptation to the support.
        adapt_steps: steps of adaptation, which do not depend on the speed of the machine.
        refine: whether masks of ours are refined by what the support teaches.
        dtype: of the backbone of ours, "float32" or "bfloat16".
        memory_pool: of the backbone of ours, 1 for none.
        adapters: another entry, which is fitted on the same support and whose trained weights ours then uses.
        datasets: only these; None for all.
    """

    name: str = ""
    method: str | None = None
    peer: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    views: tuple[str, ...] = ()
    adapt_s: float = 0.0
    adapt_steps: int = 0
    refine: bool = True
    dtype: Literal["float32", "bfloat16"] = "float32"
    memory_pool: int = Field(1, ge=1)
    adapters: str | None = None
    datasets: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.method is None) == (self.peer is None):
            raise ValueError("give either method or peer")
        if self.peer is not None and (self.views or self.adapt_s or self.adapt_steps or self.adapters):
            raise ValueError("views, adaptation and adapters are for our own methods")
        if self.adapters is not None and (self.adapt_s or self.adapt_steps):
            raise ValueError("trained adapters are used as they are; leave adaptation or adapters out")
        known, name = (METHODS, self.method) if self.method else (PEERS, self.peer)
        if name not in known:
            raise ValueError(f"no {known.kind} is called {name!r}; known: {', '.join(known)}")
        return self

    @property
    def label(self) -> str:
        """The name that is shown."""
        return self.name or self.method or self.peer or ""


class Published(_Table):
    """A number of a paper, shown in a column of its own and never mixed with ours.

    Attributes:
        dataset: as named in this recipe.
        method: as named in this recipe, or any other method.
        dice: mean over classes, 0..1.
        source: where it stands.
        shots: labelled cases it was reached with, None where unknown.
    """

    dataset: str
    method: str
    dice: float = Field(ge=0, le=1)
    source: str
    shots: int | None = None


class Recipe(_Table):
    """The whole file.

    Attributes:
        title: first line of the report.
        data: folder of the datasets, from the recipe's own.
        datasets: who is segmented.
        methods: who segments.
        backbones: for our methods, what `unprompted.load_backbone` takes.
        shots: numbers of labelled cases.
        seeds: choices of the support; 0 takes the first cases by name.
        queries: ask this many cases at most, spread evenly over their names.
        folds: seeds are folds of so many; 0 for none.
        slices: "all", or "labelled-range" to compare with papers that cut queries so.
        dice: the number shown: "volume" (3D, per case), "pooled" (all cases as one) or "slice".
        tolerance_mm: of NSD.
        published: numbers of papers.
    """

    title: str
    data: str = "."
    datasets: tuple[DatasetEntry, ...] = Field(min_length=1)
    methods: tuple[MethodEntry, ...] = Field(min_length=1)
    backbones: tuple[str, ...] = (DEFAULT_BACKBONE,)
    shots: tuple[int, ...] = (1,)
    seeds: tuple[int, ...] = (0,)
    queries: int | None = Field(None, ge=1)
    folds: int = Field(0, ge=0)
    slices: Slices = "all"
    dice: Literal["volume", "pooled", "slice"] = "volume"
    tolerance_mm: float = Field(1.0, ge=0)
    published: tuple[Published, ...] = ()

    @model_validator(mode="after")
    def _names(self) -> Self:
        for kind, names in (
            ("dataset", [entry.name for entry in self.datasets]),
            ("method", [entry.label for entry in self.methods]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"two entries are called {', '.join(twice)}; give each {kind} a name")
        known = {entry.name for entry in self.datasets}
        for entry in self.methods:
            if strangers := set(entry.datasets or ()) - known:
                raise ValueError(f"{entry.label}: no dataset is called {', '.join(sorted(strangers))}")
        return self

    @model_validator(mode="after")
    def _lenders(self) -> Self:
        for entry in self.methods:
            lender = self.lender_of(entry)
            if entry.adapters is None or (lender and lender.method and lender.adapters is None):
                continue
            own = [e.label for e in self.methods if e.method and e.adapters is None]
            raise ValueError(
                f"{entry.label}: adapters = {entry.adapters!r} is no entry of ours that trains its own; "
                f"there are {', '.join(own) or 'none'}"
            )
        return self

    def lender_of(self, entry: MethodEntry) -> MethodEntry | None:
        """The entry whose adapters another one takes."""
        return next((other for other in self.methods if other.label == entry.adapters), None)


@dataclass(frozen=True)
class Cell:
    """One result to be had.

    Attributes:
        dataset: who is segmented.
        method: who segments.
        backbone: of our methods, "none" for a peer.
        draw: how support and queries are drawn.
        slices: which slices count.
        tolerance_mm: of NSD.
        root: folder of the dataset's files, None for generated ones.
        lender: whose adapters the method takes, None for nobody's.
        lends: whether other methods of the recipe take the adapters of this one.
    """

    dataset: DatasetEntry
    method: MethodEntry
    backbone: str
    draw: Draw
    slices: Slices
    tolerance_mm: float
    root: Path | None
    lender: MethodEntry | None = None
    lends: bool = False

    @property
    def label(self) -> str:
        """One line for people."""
        shots = f"{self.draw.shots} shot{'' if self.draw.shots == 1 else 's'}"
        return f"{self.dataset.name}, {self.method.label}, {self.backbone}, {shots}, seed {self.draw.seed}"


def read_recipe(path: Path) -> Recipe:
    """The recipe in a TOML file.

    Raises:
        UsageError: the file is not there or not TOML, or says what a recipe cannot say.
    """
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {error}") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UsageError(f"{path}: {wrong}") from error


def cells_of(recipe: Recipe, base: Path) -> Iterator[Cell]:
    """The matrix: dataset x shots x seed x method x backbone.

    Args:
        recipe: what to do.
        base: the folder that the paths of datasets are below.
    """
    lenders = {entry.adapters for entry in recipe.methods}
    for dataset in recipe.datasets:
        shots, seeds = dataset.shots or recipe.shots, dataset.seeds or recipe.seeds
        root = base / dataset.path if dataset.path is not None else None
        for count, seed, method in product(shots, seeds, recipe.methods):
            if method.datasets is not None and dataset.name not in method.datasets:
                continue
            queries = dataset.queries or recipe.queries
            draw = Draw(count, seed, queries, recipe.folds, dataset.official, dataset.labels)
            for backbone in recipe.backbones if method.method else (NO_BACKBONE,):
                yield Cell(
                    dataset,
                    method,
                    backbone,
                    draw,
                    recipe.slices,
                    recipe.tolerance_mm,
                    root,
                    recipe.lender_of(method),
                    method.label in lenders,
                )
