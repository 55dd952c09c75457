"""Random anatomies: implicit shapes, the subjects that share them, and label maps of any plane.

An anatomy lives in ``[-1, 1]^3``. Each region is a scalar field that is -1 in its core and 0 on its
border, so that shells are thresholds of one field. A subject changes the coordinates (affine, smooth
displacement) and every region's own parameters. Only the asked points are evaluated.
"""

import math
import random
from dataclasses import dataclass, field, replace

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
    """

    plan: str
    regions: tuple[Region, ...]
    shapes: Shapes
    tissues: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]

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
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


@dataclass
class _Draft:
    """Collects regions while an anatomy is being drawn."""

    rng: random.Random
    regions: list[Region] = field(default_factory=list)
    rows: list[dict[str, Tensor]] = field(default_factory=list)
    tissues: list[str] = field(default_factory=lambda: ["air"])
    groups: list[tuple[int, ...]] = field(default_factory=list)

    def uniform(self, low: float, high: float) -> float:
        return self.rng.uniform(low, high)

    def logarithmic(self, low: float, high: float) -> float:
        return math.exp(self.rng.uniform(math.log(low), math.log(high)))

    def normal(self, *shape: int) -> Tensor:
        count = math.prod(shape)
        return torch.tensor([self.rng.gauss(0, 1) for _ in range(count)]).reshape(shape)

    def label(self, tissue: str) -> int:
        self.tissues.append(tissue)
        return len(self.tissues) - 1

    def add(
        self,
        region: Region,
        centre: tuple[float, float, float] | Tensor,
        radii: tuple[float, float, float],
        *,
        tilt: float = 3.0,
        bumps: float = 0.1,
        square: float = 0.0,
        nodes: Tensor | None = None,
        node_radius: Tensor | None = None,
        waviness: float = 1.6,
    ) -> None:
        rng = self.rng
        self.regions.append(replace(region, boxy=square > 0))
        angles = torch.tensor([rng.uniform(-tilt, tilt) for _ in range(3)])
        self.rows.append(
            {
                "centre": torch.as_tensor(centre, dtype=torch.float32),
                "turn": rotation(angles),
                "radii": torch.tensor(radii),
                "bump_wave": self.normal(BUMPS, 3) * waviness,
                "bump_size": self.normal(BUMPS) * bumps / 2,
                "bump_phase": self.normal(BUMPS) * 3,
                "square": torch.tensor(float(square)),
                "nodes": torch.zeros(NODES, 3) if nodes is None else nodes,
                "node_radius": torch.ones(NODES) if node_radius is None else node_radius,
            }
        )

    def finished(self, plan: str) -> Anatomy:
        names = self.rows[0].keys()
        shapes = Shapes(**{name: torch.stack([row[name] for row in self.rows]) for name in names})
        single = [(label,) for label in range(1, len(self.tissues)) if self.tissues[label] != "tool"]
        return Anatomy(
            plan, tuple(self.regions), shapes, tuple(self.tissues), tuple(single) + tuple(self.groups)
        )


def _place(draft: _Draft, taken: list[tuple[Tensor, float]], radius: float, bounds: Tensor) -> Tensor:
    """A centre within the body that overlaps least with what is there."""
    best, best_gap = torch.zeros(3), -math.inf
    for _ in range(8):
        while True:
            point = torch.tensor([draft.uniform(-1, 1) for _ in range(3)])
            if point.square().sum() < 1:
                break
        point = point * (bounds - 0.7 * radius).clamp(min=0.05)
        gap = min((float((point - c).norm()) - r for c, r in taken), default=1.0) - radius
        if gap > best_gap:
            best, best_gap = point, gap
        if gap > -0.25 * radius:
            break
    taken.append((best, radius))
    return best


def _levels(draft: _Draft, tissue: str) -> tuple[tuple[float, int], ...]:
    """One label, or a shell around a core (myocardium and cavity), or three layers."""
    rng = draft.rng
    labels = [(0.0, draft.label(tissue))]
    if rng.random() < 0.4:
        inner = rng.choice(["fluid", "soft", "soft", "vessel"])
        labels.append((draft.uniform(0.15, 0.6), draft.label(inner)))
        if rng.random() < 0.25:
            labels.append((draft.uniform(labels[-1][0] + 0.15, 0.9), draft.label("soft")))
        draft.groups.append(tuple(label for _, label in labels))
    return tuple(labels)


def _organ(draft: _Draft, taken: list[tuple[Tensor, float]], bounds: Tensor, low: float, high: float) -> None:
    rng = draft.rng
    radius = draft.logarithmic(low, high)
    tissue = rng.choices(["soft", "fluid", "bone", "gas", "fat"], [10, 2, 1.2, 0.8, 0.5])[0]
    centre = _place(draft, taken, radius, bounds)
    stretch = [draft.logarithmic(0.6, 1.7) for _ in range(3)]
    split = None
    levels = _levels(draft, tissue)
    if len(levels) == 1 and rng.random() < 0.2:
        split = draft.label("soft")
        draft.groups.append((levels[0][1], split))
    mirrored = abs(float(centre[0])) > 1.1 * radius and rng.random() < 0.3
    region = Region("blob", levels, split, mirrored=mirrored, optional=rng.random() < 0.3)
    radii = (radius * stretch[0], radius * stretch[1], radius * stretch[2])
    bumps = rng.choice([0.05, 0.15, 0.3, 0.45])
    draft.add(region, centre, radii, bumps=bumps, square=rng.choice([0, 0, 0, 0.5, 1]))


def _tube(draft: _Draft, bounds: Tensor, radius: float, within: tuple[int, ...] | None = None) -> None:
    """A curved tube through the body: a random walk with inertia, thinning along its way."""
    rng = draft.rng
    start = torch.tensor([draft.uniform(-0.7, 0.7) for _ in range(3)]) * bounds
    heading = draft.normal(3)
    heading = heading / heading.norm()
    length = draft.logarithmic(0.5, 2.2)
    curl = draft.logarithmic(0.1, 0.8)
    points = [start - heading * length / 2 * rng.random()]
    for _ in range(NODES - 1):
        heading = heading + curl * draft.normal(3) - 0.25 * points[-1] / bounds
        heading = heading / heading.norm()
        points.append(points[-1] + heading * length / NODES)
    nodes = torch.stack(points)
    middle = nodes[rng.randrange(3, NODES - 3)]
    taper = torch.linspace(1, draft.uniform(0.4, 1), NODES) * (1 + 0.2 * draft.normal(NODES)).clamp(0.6, 1.5)
    levels: tuple[tuple[float, int], ...] = ((0.0, draft.label(rng.choice(["vessel", "vessel", "soft"]))),)
    if radius > 0.06 and rng.random() < 0.4:
        levels += ((draft.uniform(0.25, 0.5), draft.label(rng.choice(["fluid", "gas", "soft"]))),)
        draft.groups.append(tuple(label for _, label in levels))
    draft.add(
        Region("tube", levels, within=within, optional=rng.random() < 0.3),
        middle,
        (radius, radius, radius),
        nodes=nodes - middle,
        node_radius=taper,
    )


def _cells(draft: _Draft, centre: Tensor, spread: float, radius: float) -> None:
    """A cluster of small blobs under one label, perhaps with nuclei."""
    rng = draft.rng
    count = rng.randint(3, NODES)
    nodes = draft.normal(NODES, 3) * spread
    nodes[count:] = AWAY
    levels: tuple[tuple[float, int], ...] = ((0.0, draft.label(rng.choice(["soft", "fluid", "bone"]))),)
    if rng.random() < 0.5:
        levels += ((draft.uniform(0.25, 0.55), draft.label("soft")),)
        draft.groups.append(tuple(label for _, label in levels))
    sizes = (1 + 0.3 * draft.normal(NODES)).clamp(0.5, 1.7)
    draft.add(Region("cells", levels), centre, (radius, radius, radius), nodes=nodes, node_radius=sizes)


def _slab(draft: _Draft, within: tuple[int, ...], offset: float, half: float, direction: Tensor) -> None:
    draft.add(
        Region("slab", ((0.0, draft.label(draft.rng.choice(["soft", "fat", "fluid", "bone"]))),), within=within),
        direction * offset,
        (half, half, half),
        bumps=draft.uniform(0.1, 0.5),
        waviness=draft.uniform(0.8, 3),
    )
    # A slab's first own axis is its normal, so the rotation is rebuilt around the shared direction.
    first = direction / direction.norm()
    helper = torch.tensor([0.0, 0.0, 1.0]) if abs(float(first[2])) < 0.9 else torch.tensor([0.0, 1.0, 0.0])
    second = torch.linalg.cross(first, helper)
    second = second / second.norm()
    draft.rows[-1]["turn"] = torch.stack([first, second, torch.linalg.cross(first, second)])


PLANS = {"torso": 6, "head": 2.5, "heart": 3, "layers": 1.3, "cells": 1.2, "smear": 1, "vessels": 1, "mixture": 4}


def draw_anatomy(rng: random.Random, plan: str | None = None) -> Anatomy:
    """A random anatomy.

    Args:
        plan: one of `PLANS`; drawn when None.
    """
    if plan is None:
        plan = rng.choices(list(PLANS), list(PLANS.values()))[0]
    draft = _Draft(rng)
    body = draft.label("body")
    flat = plan in ("layers", "cells", "smear", "vessels") or (plan == "mixture" and rng.random() < 0.25)
    bounds = _outline(draft, plan, body, flat)
    inside = (draft.regions[0].levels[-1][1], body)
    taken: list[tuple[Tensor, float]] = []
    room = bounds * 0.85
    if rng.random() < {"head": 0.7, "mixture": 0.35, "torso": 0.25, "cells": 0.3}.get(plan, 0.1):
        _folds(draft, inside)
    if plan == "layers" or rng.random() < 0.2:
        _layers(draft, inside, rng.randint(3, 8) if plan == "layers" else rng.randint(1, 3))
    if plan == "torso":
        _trunk(draft, taken, room)
    if plan == "heart":
        _heart(draft, taken, room, inside)
    if plan == "smear":
        _smear(draft)
    if plan == "cells":
        for _ in range(rng.randint(3, 6)):
            _cells(draft, draft.normal(3) * 0.3, draft.uniform(0.3, 0.8), draft.logarithmic(0.06, 0.25))
    organs = {"vessels": (1, 3), "cells": (1, 3), "smear": (0, 1), "torso": (6, 10), "head": (5, 9)}.get(plan, (4, 8))
    for _ in range(rng.randint(*organs)):
        _organ(draft, taken, room, 0.09, 0.45)
    for _ in range(rng.randint(4, 7) if plan == "vessels" else rng.randint(0, 3)):
        _tube(draft, room, draft.logarithmic(0.02, 0.12))
    if plan not in ("cells", "smear") and rng.random() < 0.25:
        _cells(draft, _place(draft, taken, 0.2, room), draft.uniform(0.1, 0.3), draft.logarithmic(0.03, 0.09))
    for _ in range(rng.randint(0, 3)):
        _organ(draft, taken, room, 0.05, 0.15)
    return draft.finished(plan)


def _outline(draft: _Draft, plan: str, body: int, flat: bool) -> Tensor:
    """The body with skin fat or skull; half axes ``(3,)``."""
    rng = draft.rng
    bounds = torch.tensor([draft.uniform(0.75, 0.95), draft.uniform(0.55, 0.95), draft.uniform(0.8, 1.6)])
    if flat:
        draft.add(Region("blob", ((0.0, body),)), (0, 0, 0), (4.0, 4.0, 4.0), tilt=0)
        return bounds
    levels: tuple[tuple[float, int], ...] = ((0.0, body),)
    if plan == "head":
        bounds = torch.tensor([0.75, 0.9, 0.85])
        levels += ((0.06, draft.label("bone")), (0.13, draft.label("soft")))
    elif rng.random() < 0.7:
        levels = ((0.0, draft.label("fat")), (draft.uniform(0.04, 0.2), body))
    half = (float(bounds[0]), float(bounds[1]), float(bounds[2]))
    draft.add(Region("blob", levels), (0, 0, 0), half, tilt=0, bumps=0.06, square=rng.random() * 0.6)
    return bounds


def _folds(draft: _Draft, within: tuple[int, ...]) -> None:
    """Winding stripes through the body: gyri, bowel loops, septa, glands."""
    rng = draft.rng
    waves = draft.logarithmic(6, 18)
    stripe = Region("folds", ((0.0, draft.label(rng.choice(["soft", "soft", "fat", "fluid"]))),), within=within)
    draft.add(stripe, (0, 0, 0), (1.0, 1.0, 1.0), bumps=draft.logarithmic(2, 8), waviness=waves / 1.7)


def _layers(draft: _Draft, within: tuple[int, ...], count: int) -> None:
    """A stack of wavy sheets, some of them touching."""
    direction = draft.normal(3)
    direction = direction / direction.norm()
    offset = draft.uniform(-0.8, 0.2)
    for _ in range(count):
        half = draft.logarithmic(0.02, 0.13)
        offset += half
        _slab(draft, within, offset, half, direction)
        offset += half + (draft.uniform(0, 0.1) if draft.rng.random() < 0.3 else 0)


def _trunk(draft: _Draft, taken: list[tuple[Tensor, float]], room: Tensor) -> None:
    """Spine with canal, ribs, a great vessel in front, and one dominating organ."""
    rng = draft.rng
    spine = torch.tensor([draft.uniform(-0.05, 0.05), float(room[1]) * 0.7, 0.0])
    column = Region("blob", ((0.0, draft.label("bone")), (0.6, draft.label("soft"))))
    draft.add(column, spine, (0.14, 0.13, 3.0), tilt=0.1, bumps=0.3, waviness=2.5)
    taken.append((spine, 0.15))
    if rng.random() < 0.6:
        angle = torch.linspace(0.3, 2 * math.pi - 0.3, NODES)
        ring = torch.stack([angle.sin() * room[0], angle.cos() * room[1], 0.5 * torch.cos(3 * angle)], -1)
        draft.add(Region("tube", ((0.0, draft.label("bone")),)), (0, 0, 0), (0.045,) * 3, nodes=ring * 1.02)
        # Ribs show as spots: a slice meets the wavy ring only here and there.
    great = Region("blob", ((0.0, draft.label("vessel")),))
    side = spine + torch.tensor([draft.uniform(-0.12, 0.12), -0.24, 0.0])
    draft.add(great, side, (draft.uniform(0.05, 0.09), draft.uniform(0.05, 0.09), 3.0), tilt=0.1, bumps=0.1)
    taken.append((side, 0.1))
    if rng.random() < 0.7:
        radius = draft.uniform(0.35, 0.55)
        side = torch.tensor([rng.choice([-1, 1]) * float(room[0]) * 0.45, -0.1, draft.uniform(-0.4, 0.4)])
        large = Region("blob", ((0.0, draft.label("soft")),))
        draft.add(large, side, (radius * 1.1, radius * 0.9, radius), bumps=draft.uniform(0.2, 0.5), tilt=0.5)
        taken.append((side, radius * 0.6))


def _heart(draft: _Draft, taken: list[tuple[Tensor, float]], room: Tensor, inside: tuple[int, ...]) -> None:
    """A thick-walled cavity with a crescent cavity at its side; lungs at times."""
    rng = draft.rng
    wall, cavity, crescent = draft.label("soft"), draft.label("fluid"), draft.label("fluid")
    radius = draft.uniform(0.16, 0.35)
    if rng.random() < 0.5:
        lung = Region("blob", ((0.0, draft.label("gas")),), mirrored=True, within=inside)
        draft.add(lung, (0.45 * float(room[0]), 0.0, 0.0), (0.4, 0.6, 1.2), bumps=0.2, tilt=0.3)
    centre = _place(draft, taken, radius, room * 0.6)
    turn = draft.uniform(0, 2 * math.pi)
    side = centre + torch.tensor([math.cos(turn), math.sin(turn), 0.0]) * radius * draft.uniform(0.6, 1.0)
    draft.add(
        Region("blob", ((0.0, crescent),)), side, (radius * 1.1, radius * 1.1, radius * 1.5), tilt=0.3, bumps=0.2
    )
    muscle = Region("blob", ((0.0, wall), (draft.uniform(0.2, 0.5), cavity)))
    draft.add(muscle, centre, (radius, radius, radius * 1.6), tilt=0.3, bumps=0.12)
    draft.groups += [(wall, cavity), (wall, cavity, crescent)]


def _smear(draft: _Draft) -> None:
    """One large cell with a lobed nucleus among many small ones with pale cores."""
    rng = draft.rng
    for _ in range(2):
        small, core = draft.label("soft"), draft.label("soft")
        nodes = draft.normal(NODES, 3) * torch.tensor([0.7, 0.7, 0.1])
        region = Region("cells", ((0.0, small), (draft.uniform(0.4, 0.7), core)))
        draft.groups.append((small, core))
        draft.add(region, (0, 0, 0), (draft.uniform(0.13, 0.2),) * 3, nodes=nodes)
    plasma, nucleus = draft.label("soft"), draft.label("soft")
    radius = draft.uniform(0.25, 0.4)
    draft.add(Region("blob", ((0.0, plasma),)), (0, 0, 0), (radius,) * 3, bumps=draft.uniform(0.05, 0.2))
    lobes = draft.normal(NODES, 3) * radius * draft.uniform(0.15, 0.4)
    lobes[rng.randint(1, 5) :] = AWAY
    size = radius * draft.uniform(0.35, 0.65)
    draft.add(Region("cells", ((0.0, nucleus),), within=(plasma,)), (0, 0, 0), (size,) * 3, nodes=lobes)
    draft.groups.append((plasma, nucleus))


def with_tool(anatomy: Anatomy, rng: random.Random) -> Anatomy:
    """The anatomy with an instrument painted over everything: a straight tube, never a class."""
    draft = _Draft(rng)
    draft.tissues = list(anatomy.tissues)
    span = torch.linspace(-1, 1, NODES)[:, None] * torch.tensor([draft.uniform(0.5, 1.5), draft.uniform(-1, 1), 0.1])
    radius = draft.logarithmic(0.03, 0.12)
    draft.add(Region("tube", ((0.0, draft.label("tool")),)), (0, 0, 0), (radius,) * 3, nodes=span)
    shapes = Shapes(
        **{name: torch.cat([value, draft.rows[0][name][None]]) for name, value in vars(anatomy.shapes).items()}
    )
    return replace(
        anatomy, regions=anatomy.regions + tuple(draft.regions), shapes=shapes, tissues=tuple(draft.tissues)
    )


def draw_subjects(anatomy: Anatomy, count: int, generator: torch.Generator, strength: float = 1.0) -> Subjects:
    """Subjects of one anatomy: different size, pose, organ shapes and positions.

    Args:
        generator: a CPU generator.
        strength: 1 for the usual spread between patients, 0 for none.
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

    Args:
        only: labels known to be in the picture; regions without any of them are skipped.
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
