"""Implicit shapes, the subjects that share them, and label maps of any set of points.

An anatomy lives in ``[-1, 1]^3``. Each region is a scalar field that is -1 in its core and 0 on its
border, so that shells are thresholds of one field. A subject changes the coordinates (affine, smooth
displacement) and every region's own parameters. Only the asked points are evaluated.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

BUMPS = 4  # sine bumps on a blob's radius
WAVES = 8  # sine waves of a subject's displacement field
NODES = 14  # most nodes of a tube, or members of a cluster
AWAY = 50.0  # a centre this far off removes a region from every picture


@dataclass(frozen=True)
class Region:
    """One shape and the labels it paints.

    Attributes:
        kind: "blob", "tube", "cells", "slab" (wavy sheet) or "folds" (winding stripes everywhere).
        levels: ``(depth, label)`` from the border inwards; depth 0 is the border, 1 the core.
        split: label of the half on the positive side of a wavy plane; None leaves it whole.
        within: labels that may be painted over; None means everything inside the body.
        mirrored: paint a second copy at ``-x`` under the same labels.
        optional: some subjects lack it.
        boxy: whether `Shapes.square` is above 0.
    """

    kind: str
    levels: tuple[tuple[float, int], ...]
    split: int | None = None
    within: tuple[int, ...] | None = None
    mirrored: bool = False
    optional: bool = False
    boxy: bool = False

    @property
    def labels(self) -> tuple[int, ...]:
        """All labels the region paints."""
        own = tuple(label for _, label in self.levels)
        return own if self.split is None else (*own, self.split)


@dataclass(frozen=True)
class Shapes:
    """Parameters of R regions; with a leading frame axis ``(F, R, ...)`` once posed.

    Attributes:
        centre: ``(R, 3)``.
        turn: ``(R, 3, 3)`` rotation from anatomy to the region's own axes.
        radii: ``(R, 3)`` half axes (a tube uses the first as its radius; a slab as its half width).
        bump_wave: ``(R, BUMPS, 3)`` wave vectors, in the region's own normalized coordinates.
        bump_size: ``(R, BUMPS)`` relative change of the radius.
        bump_phase: ``(R, BUMPS)``.
        square: ``(R,)`` 0 for an ellipsoid, 1 for a box-like superellipsoid.
        nodes: ``(R, NODES, 3)`` tube nodes or cell centres, relative to `centre`.
        node_radius: ``(R, NODES)`` relative to ``radii[0]``.
    """

    centre: Tensor
    turn: Tensor
    radii: Tensor
    bump_wave: Tensor
    bump_size: Tensor
    bump_phase: Tensor
    square: Tensor
    nodes: Tensor
    node_radius: Tensor

    def indexed(self, index: Tensor) -> "Shapes":
        """The same fields gathered along the first axis."""
        return Shapes(**{name: value[index] for name, value in vars(self).items()})

    def to(self, device: torch.device) -> "Shapes":
        """The same fields on a device."""
        return Shapes(**{name: value.to(device) for name, value in vars(self).items()})


@dataclass(frozen=True)
class Anatomy:
    """Regions in painting order; the first is the body outline.

    Attributes:
        tissues: label to tissue word ("air", "body", "fat", "soft", "fluid", "bone", "vessel", "tool").
        groups: sets of labels that may serve together as one class.
        names: label to organ name, where the plan has named organs.
    """

    plan: str
    regions: tuple[Region, ...]
    shapes: Shapes
    tissues: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    names: dict[int, str] = field(default_factory=dict)

    def owner(self, label: int) -> int:
        """Index of the region that paints a label."""
        for index, region in enumerate(self.regions):
            if label in region.labels:
                return index
        return 0


@dataclass(frozen=True)
class Subjects:
    """N subjects of one anatomy.

    Attributes:
        shapes: posed shapes ``(N, R, ...)``.
        affine: ``(N, 3, 3)`` and shift ``(N, 3)``: patient to anatomy coordinates.
        wave, swing, phase: displacement field, ``(N, WAVES, 3)``, ``(N, WAVES, 3)``, ``(N, WAVES)``.
    """

    shapes: Shapes
    affine: Tensor
    shift: Tensor
    wave: Tensor
    swing: Tensor
    phase: Tensor

    def indexed(self, index: Tensor) -> "Subjects":
        """One entry a frame."""
        rest = {n: v[index] for n, v in vars(self).items() if n != "shapes"}
        return Subjects(shapes=self.shapes.indexed(index), **rest)

    def to(self, device: torch.device) -> "Subjects":
        """The same subjects on a device."""
        rest = {n: v.to(device) for n, v in vars(self).items() if n != "shapes"}
        return Subjects(shapes=self.shapes.to(device), **rest)


def rotation(angles: Tensor) -> Tensor:
    """Rotation matrices ``(..., 3, 3)`` from three Euler angles ``(..., 3)`` in radians."""
    c, s = angles.cos(), angles.sin()
    (cx, cy, cz), (sx, sy, sz) = c.unbind(-1), s.unbind(-1)
    rows = [cy * cz, sx * sy * cz - cx * sz, cx * sy * cz + sx * sz]
    rows += [cy * sz, sx * sy * sz + cx * cz, cx * sy * sz - sx * cz]
    rows += [-sy, sx * cy, cx * cy]
    return torch.stack(rows, -1).reshape(*angles.shape[:-1], 3, 3)


def draw_subjects(
    anatomy: Anatomy, count: int, generator: torch.Generator, strength: float = 1.0
) -> Subjects:
    """Subjects of one anatomy: different size, pose, organ shapes and positions.

    The generator is a CPU one; `strength` is 1 for the usual spread between patients, 0 for none.
    """

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * strength

    base, regions = anatomy.shapes, len(anatomy.regions)
    movable = torch.ones(regions)
    movable[0] = 0.3
    size = base.radii.mean(-1).clamp(max=0.5)
    shapes = Shapes(
        centre=base.centre + normal(count, regions, 3) * (0.02 + 0.12 * size[:, None]) * movable[:, None],
        turn=rotation(normal(count, regions, 3) * 0.15 * movable[:, None]) @ base.turn,
        radii=base.radii * (normal(count, regions, 3) * 0.07 + normal(count, regions, 1) * 0.09).exp(),
        bump_wave=base.bump_wave.expand(count, -1, -1, -1),
        bump_size=base.bump_size * (normal(count, regions, BUMPS) * 0.3).exp(),
        bump_phase=base.bump_phase + normal(count, regions, BUMPS) * 0.35,
        square=base.square.expand(count, -1),
        nodes=base.nodes + normal(count, regions, NODES, 3) * 0.15 * size[:, None, None].clamp(max=0.15),
        node_radius=base.node_radius * (normal(count, regions, NODES) * 0.08).exp(),
    )
    for index, region in enumerate(anatomy.regions):
        if region.kind == "cells":  # cells have no fixed place: every subject has its own scatter
            spread = base.nodes[index].abs()
            spread = spread[spread < AWAY / 2].mean() * 1.25
            fresh = torch.randn((count, NODES, 3), generator=generator) * spread
            alive = (base.nodes[index].amax(-1) < AWAY / 2)[None, :, None]
            shapes.nodes[:, index] = torch.where(alive, fresh, shapes.nodes[:, index])
        if region.optional and strength > 0:
            gone = torch.rand(count, generator=generator) < 0.15
            shapes.centre[gone, index] = AWAY
    scale = (normal(count, 1) * 0.07 + normal(count, 3) * 0.04).clamp(-0.22, 0.22).exp()
    turn = rotation((normal(count, 3) * 0.1).clamp(-0.26, 0.26))
    octave = torch.cat([torch.full((WAVES // 2,), 2.0), torch.full((WAVES - WAVES // 2,), 5.0)])
    wave = torch.randn((count, WAVES, 3), generator=generator) * octave[:, None] / 1.7
    return Subjects(
        shapes=shapes,
        affine=turn * scale[:, None, :],
        shift=normal(count, 3) * 0.06,
        wave=wave,
        swing=normal(count, WAVES, 3) * (0.055 / (octave / 2) ** 1.4)[:, None],
        phase=torch.rand((count, WAVES), generator=generator) * 2 * math.pi,
    )


def to_anatomy(subjects: Subjects, points: Tensor) -> Tensor:
    """Patient points ``(F, 3, N)`` of one subject a frame, in anatomy coordinates."""
    moved = torch.baddbmm(subjects.shift[:, :, None], subjects.affine, points)
    angle = torch.baddbmm(subjects.phase[:, :, None], subjects.wave, points)
    return torch.baddbmm(moved, subjects.swing.transpose(1, 2), angle.sin_())


def _bumps(shapes: Shapes, index: int, points: Tensor) -> Tensor:
    """Sum of a region's sine waves ``(F, N)``."""
    angle = torch.baddbmm(shapes.bump_phase[:, index, :, None], shapes.bump_wave[:, index], points)
    return torch.bmm(shapes.bump_size[:, index, None], angle.sin_())[:, 0]


def _blob(shapes: Shapes, index: int, points: Tensor, mirror: bool, boxy: bool) -> tuple[Tensor, Tensor]:
    """Field of a blob ``(F, N)`` and its normalized own coordinates ``(F, 3, N)``."""
    centre, turn = shapes.centre[:, index], shapes.turn[:, index]
    if mirror:
        flip = torch.tensor([-1.0, 1.0, 1.0], device=points.device)
        centre, turn = centre * flip, turn * flip
    to_own = turn / shapes.radii[:, index, :, None]
    own = torch.baddbmm(-(to_own @ centre[..., None]), to_own, points)
    squared = own.square()
    radius = squared.sum(1).sqrt_()
    if boxy:
        radius = torch.lerp(radius, squared.square_().sum(1).sqrt_().sqrt_(), shapes.square[:, index, None])
    bump = _bumps(shapes, index, own)
    return radius.div_(bump.add_(1).clamp_(min=0.4)).sub_(1), own


def _slab_field(shapes: Shapes, index: int, points: Tensor) -> Tensor:
    """Field of a wavy sheet ``(F, N)``."""
    normal = shapes.turn[:, index, :1] / shapes.radii[:, index, :1, None]
    depth = torch.baddbmm(-(normal @ shapes.centre[:, index, :, None]), normal, points)[:, 0]
    return depth.add_(_bumps(shapes, index, points)).abs_().sub_(1)


def _tube_field(shapes: Shapes, index: int, points: Tensor) -> Tensor:
    """Field of a chain of capsules ``(F, N)``."""
    nodes = shapes.centre[:, index, None] + shapes.nodes[:, index]  # (F, P, 3)
    start, step = nodes[:, :-1], nodes[:, 1:] - nodes[:, :-1]
    length = step.square().sum(-1, keepdim=True).clamp(min=1e-8)  # squared
    unit = step / length
    along = torch.baddbmm(-(start * unit).sum(-1, keepdim=True), unit, points)
    gap = torch.baddbmm(start.square().sum(-1, keepdim=True), -2 * start, points)
    gap += points.square().sum(1, keepdim=True)
    part = along.clamp(0, 1)
    gap.addcmul_(along.mul_(2).sub_(part).mul_(part), length, value=-1)
    radius = shapes.radii[:, index, :1] * shapes.node_radius[:, index, :-1]
    return gap.div_(radius.square()[..., None]).amin(1).clamp_(min=0).sqrt_().sub_(1)


def _cell_field(shapes: Shapes, index: int, points: Tensor) -> Tensor:
    """Field of the nearest cell ``(F, N)``."""
    nodes = shapes.centre[:, index, None] + shapes.nodes[:, index]
    gap = torch.baddbmm(nodes.square().sum(-1, keepdim=True), -2 * nodes, points)
    gap += points.square().sum(1, keepdim=True)
    radius = shapes.radii[:, index, :1] * shapes.node_radius[:, index]
    return gap.div_(radius.square()[..., None]).amin(1).clamp_(min=0).sqrt_().sub_(1)


def paint(anatomy: Anatomy, subjects: Subjects, points: Tensor, only: frozenset[int] | None = None) -> Tensor:
    """Labels ``(F, N)`` uint8 at anatomy points ``(F, 3, N)``; 0 is outside the body.

    Regions with no label in `only` (labels known to be in the picture) are skipped.
    """
    labels = torch.zeros(points.shape[::2], dtype=torch.uint8, device=points.device)
    shapes = subjects.shapes
    for index, region in enumerate(anatomy.regions):
        if index and only is not None and only.isdisjoint(region.labels):
            continue
        for mirror in (False, True) if region.mirrored else (False,):
            own = None
            if region.kind == "blob":
                value, own = _blob(shapes, index, points, mirror, region.boxy)
            elif region.kind == "slab":
                value = _slab_field(shapes, index, points)
            elif region.kind == "folds":
                value = _bumps(shapes, index, points).abs_().sub_(1)
            elif region.kind == "tube":
                value = _tube_field(shapes, index, points)
            else:
                value = _cell_field(shapes, index, points)
            allowed = None
            if region.within is not None:
                allowed = labels == region.within[0]
                for label in region.within[1:]:
                    allowed |= labels == label
            elif index > 0 and anatomy.tissues[region.levels[0][1]] != "tool":
                allowed = labels > 0
            for depth, label in region.levels:
                inside = value < -depth
                if allowed is not None:
                    inside &= allowed
                labels.masked_fill_(inside, label)
                if region.split is not None and own is not None:
                    side = own[:, 0] + 0.15 * torch.sin(3 * own[:, 1]) > 0.1
                    labels.masked_fill_(inside & side, region.split)
    return labels
