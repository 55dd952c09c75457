"""Test-time views: switches that help every method, and exactly how each one shows a case.

A method sees a task in one or more *worlds*: cut along another axis, cropped to where the classes lie,
mirrored. Support and query always live in the same world. `Look.of` shows an array in a world without
copying it, so writing a result to the same look of the output puts every voxel back where it belongs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unprompted.engine.regions import Region
from unprompted.errors import UsageError
from unprompted.geometry import ANATOMICAL_AXES, Reordering, Voxel, reslicing
from unprompted.slices import Slices
from unprompted.support import Example, SupportSet

_LEARNED = "view:"  # starts the names of what was learned in another world than the plain one
_LEAST_SIDE = 16  # voxels along the shortest axis of a volume that is cut along all three
_MOST_UNEQUAL = 2.0  # largest ratio of its spacings
_STANDS = Reordering((0, 1, 2), (False, False, False))


@dataclass(frozen=True)
class World:
    """One way to look at every case of a task.

    Attributes:
        axis: slice axis "S", "A" or "R"; None is the task's own.
        zoomed: cases are cropped to where their classes lie.
        mirrored: frames are mirrored left to right.
    """

    axis: str | None = None
    zoomed: bool = False
    mirrored: bool = False

    @property
    def prefix(self) -> str:
        """Starts the names of what was learned for this world; a mirrored world learns nothing new."""
        parts = [self.axis or "", "zoom" if self.zoomed else ""]
        name = "-".join(part for part in parts if part)
        return f"{_LEARNED}{name}/" if name else ""

    def own(self, learned: dict[str, Any]) -> dict[str, Any]:
        """What was learned for this world, by the names the method gave."""
        start = self.prefix
        if not start:
            return {name: value for name, value in learned.items() if not name.startswith(_LEARNED)}
        return {n.removeprefix(start): value for n, value in learned.items() if n.startswith(start)}


@dataclass(frozen=True)
class Views:
    """Test-time choices that help every method; each is off unless switched on. See `docs/views.md`.

    Attributes:
        flips: average with a run in which support and query are mirrored left to right.
        axes: average over slices along all three axes, for whole volumes of about equal spacing.
        neighbours: the slices below and above are the first and third channel, for volumes of one channel.
        histogram: match the brightness of each case to the support, where it is scaled by percentiles.
        zoom: find the classes in a first pass, segment a crop around them in a second one.
        body: crop each case to what is not background before anything else.
        rest: look at classes that were surely absent for some slices every few slices only; faster.
        near: look for a class around where the slice before showed it only; faster, on CPUs.
    """

    flips: bool = False
    axes: bool = False
    neighbours: bool = False
    histogram: bool = False
    zoom: bool = False
    body: bool = False
    rest: bool = False
    near: bool = False

    @classmethod
    def known(cls) -> tuple[str, ...]:
        """The names of all switches."""
        return tuple(field.name for field in fields(cls))

    @classmethod
    def named(cls, names: str | Iterable[str]) -> "Views":
        """The views of the given names, or of a text such as ``"flips,zoom"``.

        Raises:
            UsageError: there is no such view.
        """
        words = names.split(",") if isinstance(names, str) else names
        wanted = [word.strip() for word in words if word.strip()]
        unknown = [word for word in wanted if word not in cls.known()]
        if unknown:
            raise UsageError(f"no view is called {', '.join(unknown)}; known: {', '.join(cls.known())}")
        return cls(**dict.fromkeys(wanted, True))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the switches that are on."""
        return tuple(name for name in self.known() if getattr(self, name))

    def geometries(self, axis: str | None) -> tuple[World, ...]:
        """The worlds a method learns in, the plain one first; mirrored ones share what is learned.

        Args:
            axis: the task's own slice axis.
        """
        others = [other for other in ANATOMICAL_AXES if other != axis] if self.axes else []
        return tuple(
            World(other, zoomed)
            for zoomed in ((False, True) if self.zoom else (False,))
            for other in (None, *others)
        )

    def worlds(self, axis: str | None) -> tuple[World, ...]:
        """The worlds a method is prepared in."""
        sides = (False, True) if self.flips else (False,)
        return tuple(World(w.axis, w.zoomed, side) for w in self.geometries(axis) for side in sides)

    def check(self, support: SupportSet, axis: str | None) -> None:
        """Do nothing where every view that is on can be used with this support.

        Raises:
            UsageError: one cannot; the message says why.
        """
        for name in ("axes", "neighbours"):
            if getattr(self, name) and axis is None:
                raise UsageError(f"the view {name} is for volumes, and the support holds none; leave it out")
        if self.neighbours and any(example.image.ndim == 3 for example in support.examples):
            raise UsageError(
                "the view neighbours fills the three channels with neighbouring slices, but the support is "
                "in colour; leave it out"
            )
        for case in support.cases if self.axes else ():
            _check_whole(case, [example for example in support.examples if example.case == case])


NO_VIEWS = Views()


def _check_whole(case: str, examples: Sequence[Example]) -> None:
    depth, shape = examples[0].depth, (examples[0].depth, *examples[0].labels.shape)
    spacing = examples[0].spacing or (1.0, 1.0, 1.0)
    reason = ""
    if len(examples) < depth:
        reason = f"only {len(examples)} of its {depth} slices are labelled"
    elif not reslicable(shape, spacing):
        apart = " x ".join(f"{s:.3g}" for s in spacing)
        reason = f"it has {' x '.join(map(str, shape))} voxels with spacing {apart}"
    if reason:
        raise UsageError(
            f"the view axes needs whole labelled volumes of at least {_LEAST_SIDE} voxels a side, spacings "
            f"within a factor {_MOST_UNEQUAL:g}, but of support case {case} {reason}; leave it out"
        )


def reslicable(shape: tuple[int, ...], spacing: tuple[float, ...]) -> bool:
    """Whether slices along every axis of a volume show something: `Views.axes` asks for it."""
    return min(shape) >= _LEAST_SIDE and max(spacing) <= _MOST_UNEQUAL * min(spacing)


@dataclass(frozen=True, eq=False)
class Look:
    """How one world shows one case.

    Attributes:
        order: from the task's slice axis to the world's.
        region: what is shown of ``(d, h, w)``.
        mirrored: whether frames are mirrored left to right.
    """

    order: Reordering
    region: Region
    mirrored: bool

    @classmethod
    def into(cls, world: World, axis: str | None, region: Region) -> "Look":
        """A look at the part of a case that lies in a region; all slices are kept.

        Args:
            world: the world.
            axis: the task's own slice axis.
            region: along ``(d, h, w)`` of the case as the task cuts it.
        """
        order = reslicing(axis, world.axis) if axis and world.axis else _STANDS
        across = order.axes[0]
        low, middle, high = (slice(None) if a == across else part for a, part in enumerate(region))
        return cls(order, (low, middle, high), world.mirrored)

    def of(self, stack: Any) -> NDArray[Any]:
        """A view ``(D', H', W', ...)`` of an array ``(D, H, W, ...)``; writing to it writes to the array.

        Slices that are made on demand are made here.
        """
        seen: NDArray[Any] = self.order.view(stack[self.region])
        return seen[:, :, ::-1] if self.mirrored else seen

    def slices(self, stack: Slices) -> range:
        """Where the slices that are shown lie along the axis of the stack that they cross."""
        across = self.order.axes[0]
        whole = range(*self.region[across].indices(stack.shape[across]))
        return whole[::-1] if self.order.flips[0] else whole

    def only(self, shown: range) -> "Look":
        """A look at some neighbouring slices, as `slices` gives them."""
        across, part = self.order.axes[0], slice(min(shown), max(shown) + 1)
        d, h, w = (part if axis == across else old for axis, old in enumerate(self.region))
        return replace(self, region=(d, h, w))


def with_neighbours(stack: NDArray[Voxel], positions: Sequence[int]) -> NDArray[Voxel]:
    """Slices with the ones before and after as first and third channel, ``(n, H, W)`` to ``(n, H, W, 3)``.

    Args:
        stack: the slices there are.
        positions: index of each in its case; where a neighbour is not there the slice itself is repeated.
    """
    at = {position: row for row, position in enumerate(positions)}
    rows = [[at.get(p - 1, at[p]), at[p], at.get(p + 1, at[p])] for p in positions]
    channels: NDArray[Any] = np.moveaxis(stack[np.array(rows)], 1, -1)
    return channels
