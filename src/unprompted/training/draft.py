"""Parts an anatomy is drawn from: organs, tubes, clusters, sheets and folds in a growing draft."""

import math
import random
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from unprompted.training.shapes import AWAY, BUMPS, NODES, Anatomy, Region, Shapes, rotation


@dataclass
class Draft:
    """Collects regions while an anatomy is being drawn."""

    rng: random.Random
    regions: list[Region] = field(default_factory=list)
    rows: list[dict[str, Tensor]] = field(default_factory=list)
    tissues: list[str] = field(default_factory=lambda: ["air"])
    groups: list[tuple[int, ...]] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)

    def uniform(self, low: float, high: float) -> float:
        """A number between `low` and `high`."""
        return self.rng.uniform(low, high)

    def logarithmic(self, low: float, high: float) -> float:
        """A number between `low` and `high`, each factor equally likely."""
        return math.exp(self.rng.uniform(math.log(low), math.log(high)))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers of this shape."""
        count = math.prod(shape)
        return torch.tensor([self.rng.gauss(0, 1) for _ in range(count)]).reshape(shape)

    def label(self, tissue: str) -> int:
        """A fresh label of a tissue."""
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
        """Append a region; `tilt` bounds its random turn, `bumps` its relative roughness.

        `waviness` is the number of bumps; `nodes` and `node_radius` are for tubes and cells.
        """
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
        """The anatomy drawn so far; every label and every group may be a class."""
        names = self.rows[0].keys()
        shapes = Shapes(**{name: torch.stack([row[name] for row in self.rows]) for name in names})
        single = [(label,) for label in range(1, len(self.tissues)) if self.tissues[label] != "tool"]
        return Anatomy(
            plan, tuple(self.regions), shapes, tuple(self.tissues), (*single, *self.groups), dict(self.names)
        )


def place(draft: Draft, taken: list[tuple[Tensor, float]], radius: float, bounds: Tensor) -> Tensor:
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


def _levels(draft: Draft, tissue: str) -> tuple[tuple[float, int], ...]:
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


def organ(draft: Draft, taken: list[tuple[Tensor, float]], bounds: Tensor, low: float, high: float) -> None:
    """A bumpy blob of radius `low` to `high`: layered, cut in two or mirrored at times."""
    rng = draft.rng
    radius = draft.logarithmic(low, high)
    tissue = rng.choices(["soft", "fluid", "bone", "gas", "fat"], [10, 2, 1.2, 0.8, 0.5])[0]
    centre = place(draft, taken, radius, bounds)
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


def tube(draft: Draft, bounds: Tensor, radius: float, within: tuple[int, ...] | None = None) -> None:
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


def cells(draft: Draft, centre: Tensor, spread: float, radius: float) -> None:
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


def _slab(draft: Draft, within: tuple[int, ...], offset: float, half: float, direction: Tensor) -> None:
    draft.add(
        Region(
            "slab", ((0.0, draft.label(draft.rng.choice(["soft", "fat", "fluid", "bone"]))),), within=within
        ),
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


def folds(draft: Draft, within: tuple[int, ...]) -> None:
    """Winding stripes through the body: gyri, bowel loops, septa, glands."""
    rng = draft.rng
    waves = draft.logarithmic(6, 18)
    stripe = Region(
        "folds", ((0.0, draft.label(rng.choice(["soft", "soft", "fat", "fluid"]))),), within=within
    )
    draft.add(stripe, (0, 0, 0), (1.0, 1.0, 1.0), bumps=draft.logarithmic(2, 8), waviness=waves / 1.7)


def layers(draft: Draft, within: tuple[int, ...], count: int) -> None:
    """A stack of wavy sheets, some of them touching."""
    direction = draft.normal(3)
    direction = direction / direction.norm()
    offset = draft.uniform(-0.8, 0.2)
    for _ in range(count):
        half = draft.logarithmic(0.02, 0.13)
        offset += half
        _slab(draft, within, offset, half, direction)
        offset += half + (draft.uniform(0, 0.1) if draft.rng.random() < 0.3 else 0)
