"""Endless labelled episodes of generated anatomy: support subjects with masks, a query subject to segment.

Equal settings, seed and device type give equal episodes.
"""

import math
import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from unprompted.training.anatomy import (
    Anatomy,
    Subjects,
    draw_anatomy,
    draw_subjects,
    paint,
    rotation,
    to_anatomy,
    with_tool,
)
from unprompted.training.rendering import Scene, render

_PROBE = 40  # side of the coarse pictures on which views and classes are chosen
_ATTEMPTS = 12


@dataclass(frozen=True)
class Episode:
    """Support frames with masks and a query sequence of another subject.

    Attributes:
        pixels: ``(F, 3, S, S)`` float32 in 0..1: support frames first, then query frames in order.
        masks: ``(F, K, S, S)`` bool; the same K classes throughout, a class may be absent on a frame.
        supports: number of support frames.
        modality: "ct", "mr", "ultrasound" or "rgb".
        kind: "volume", "video" or "single" (every frame another subject).
    """

    pixels: Tensor
    masks: Tensor
    supports: int
    modality: str = ""
    kind: str = ""


@dataclass(frozen=True)
class SynthSettings:
    """What episodes are made of.

    Attributes:
        size: side of the square pictures, in pixels.
        supports: least and most support frames.
        queries: number of query frames, or least and most.
        classes: least and most classes.
        rgb_share: share of colour pictures; the rest is CT, MR and ultrasound 4 : 5 : 2.
        video_share: share of time sequences of one plane.
        single_share: share of sets of single pictures, each of another subject.
        low_resolution_share: share of episodes seen at a lower native resolution, then enlarged.
        strength: spread between subjects; 1 is the usual one, 0 none.
        smallest: least area of a class on one support and one query frame, as a share of the picture.
    """

    size: int = 128
    supports: tuple[int, int] = (1, 4)
    queries: tuple[int, int] | int = 6
    classes: tuple[int, int] = (1, 3)
    rgb_share: float = 0.2
    video_share: float = 0.3
    single_share: float = 0.12
    low_resolution_share: float = 0.35
    strength: float = 1.0
    smallest: float = 0.002

    def __post_init__(self) -> None:
        spans = {"supports": self.supports, "queries": self.query_span, "classes": self.classes}
        for name, (low, high) in spans.items():
            if not 1 <= low <= high:
                raise ValueError(f"{name} is {low}..{high}; give 1 <= least <= most")
        if self.size < 16:
            raise ValueError(f"size is {self.size}; pictures below 16 pixels hold no anatomy")
        if self.video_share + self.single_share > 1:
            raise ValueError("video_share and single_share add up to more than 1")

    @property
    def query_span(self) -> tuple[int, int]:
        """Least and most query frames."""
        return (self.queries, self.queries) if isinstance(self.queries, int) else self.queries


@dataclass(frozen=True)
class _View:
    """Where each frame looks, in patient coordinates; all on the CPU.

    Attributes:
        frame: ``(3, 3)`` picture x, picture y and slice direction, shared by the episode.
        middle: ``(F, 3)`` along these directions.
        half: ``(F,)`` half the side of the picture.
        spin: ``(F,)`` turn in the plane, radians.
    """

    frame: Tensor
    middle: Tensor
    half: Tensor
    spin: Tensor

    def points(self, size: int, device: torch.device) -> Tensor:
        """Patient points ``(F, 3, size * size)``, row by row."""
        at = (torch.arange(size, device=device) + 0.5) * (2 / size) - 1
        y, x = torch.meshgrid(at, at, indexing="ij")
        plane = torch.stack([x.flatten(), y.flatten()])
        c, s = self.spin.cos(), self.spin.sin()
        turn = torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2)  # (F, 2, 2)
        axes = (turn @ self.frame[:2]) * self.half[:, None, None]
        start = self.middle @ self.frame
        return torch.matmul(axes.transpose(1, 2).to(device), plane) + start.to(device)[:, :, None]


def _orientation(rng: random.Random) -> Tensor:
    order = rng.choices([(0, 1, 2), (0, 2, 1), (1, 2, 0)], [6, 2, 2])[0]
    frame = torch.eye(3)[list(order)] * torch.tensor([[rng.choice([-1.0, 1.0])] for _ in range(3)])
    if rng.random() < 0.2:
        frame = frame[[1, 0, 2]]
    return frame @ rotation(torch.tensor([rng.gauss(0, 0.12) for _ in range(3)]))


def _counts(settings: SynthSettings, rng: random.Random) -> tuple[int, int, int]:
    return (
        rng.randint(*settings.supports),
        rng.randint(*settings.query_span),
        rng.randint(*settings.classes),
    )


def _moving(subjects: Subjects, first: int, rng: random.Random, generator: torch.Generator) -> Subjects:
    """Frames ``first..`` of one subject set in motion: breathing, beating and drifting organs."""
    count, regions = subjects.shapes.centre.shape[:2]
    time = torch.zeros(count)
    time[first:] = torch.arange(count - first) * rng.choice([0.15, 0.3, 0.6])
    cycle = torch.sin(time[:, None] + torch.rand(regions, generator=generator)[None] * 1.5) * (time > 0)[:, None]
    shapes = subjects.shapes
    size = shapes.radii.mean(-1).clamp(max=0.4)
    sway = torch.randn((regions, 3), generator=generator) * rng.choice([0.02, 0.1, 0.3])
    sway[0] = 0
    beat = torch.randn(regions, generator=generator) * rng.choice([0.0, 0.08, 0.2])
    beat[0] = 0
    posed = {
        **vars(shapes),
        "centre": shapes.centre + cycle[..., None] * sway * size[..., None],
        "radii": shapes.radii * (cycle * beat).exp()[..., None],
    }
    rest = {n: v for n, v in vars(subjects).items() if n != "shapes"}
    rest["phase"] = subjects.phase + time[:, None] * rng.choice([0.0, 0.2, 0.6])
    return Subjects(shapes=type(shapes)(**posed), **rest)


def _look(
    anatomy: Anatomy,
    subjects: Subjects,
    who: Tensor,
    supports: int,
    kind: str,
    rng: random.Random,
    wide: bool,
) -> _View:
    """Views around one region: query positions in a row, support positions nearby."""
    count = len(who)
    weights = [0.0] + [1.0] * (len(anatomy.regions) - 1)
    subject = [index for index in range(len(weights)) if anatomy.tissues[anatomy.regions[index].levels[0][1]] == "tool"]
    for index in subject:
        weights[index] = 0
    target = rng.choices(range(len(weights)), weights)[0] if sum(weights) else 0
    shapes = subjects.shapes
    frame = _orientation(rng)
    radii = anatomy.shapes.radii[target]
    reach = float(radii.clamp(max=0.6).mean())
    if anatomy.regions[target].kind == "tube":
        reach = reach * rng.uniform(2, 6)
    if anatomy.regions[target].kind == "cells":
        spread = anatomy.shapes.nodes[target].abs()
        reach = float(spread[spread < 10].mean()) + reach
    if anatomy.regions[target].kind == "slab":
        reach = rng.uniform(0.2, 0.5)
    zoomed = not wide and rng.random() < 0.65
    half = reach * math.exp(rng.uniform(math.log(1.3), math.log(4))) if zoomed else rng.uniform(0.85, 1.25)
    half = max(0.15, min(half, 1.3))
    centre = shapes.centre[who, target].clamp(-1.2, 1.2)
    moved = torch.linalg.solve(subjects.affine[who], (centre - subjects.shift[who])[..., None])[..., 0]
    seen = moved @ frame.T  # along picture x, picture y, slice direction
    per_subject = torch.tensor([[rng.gauss(0, 1) for _ in range(4)] for _ in range(count)])[who]
    middle = seen.clone()
    if not zoomed:
        middle[:, :2] = 0
    middle[:, :2] += per_subject[:, :2] * half * (0.15 if zoomed else 0.05)
    halves = half * (per_subject[:, 2] * 0.08).exp()
    spin = per_subject[:, 3] * 0.08
    z = torch.tensor([rng.uniform(-0.7, 0.7) for _ in range(count)]) * reach
    queries = count - supports
    if kind == "volume":
        step = reach * math.exp(rng.uniform(math.log(0.03), math.log(0.45))) * rng.choice([-1, 1])
        z[supports:] = rng.uniform(-0.8, 0.8) * reach + (torch.arange(queries) - (queries - 1) / 2) * step
    elif kind == "video":
        z *= 0.4
        time = torch.arange(queries) * rng.choice([0.1, 0.3, 0.7])
        z[supports:] = rng.uniform(-0.3, 0.3) * reach + torch.sin(time) * reach * rng.choice([0.0, 0.2, 0.6])
        path = rng.choice([0.0, 0.1, 0.3, 1.2]) * half
        turn = rng.uniform(0, 2 * math.pi)
        sway = torch.sin(time * rng.uniform(0.5, 1.5) + rng.uniform(0, 1)) * path
        middle[supports:, 0] += sway * math.cos(turn)
        middle[supports:, 1] += sway * math.sin(turn)
        spin[supports:] += torch.sin(time) * rng.choice([0, 0.1, 0.4])
    middle[:, 2] += z
    return _View(frame, middle, halves, spin)


def _areas(labels: Tensor, count: int) -> Tensor:
    """Share of each frame covered by each label, ``(F, L)`` on the CPU."""
    frames = labels.shape[0]
    flat = labels.flatten(1).long() + count * torch.arange(frames, device=labels.device)[:, None]
    hist = torch.bincount(flat.flatten(), minlength=frames * count).view(frames, count)
    return (hist / labels[0].numel()).cpu()


def _borders(labels: Tensor, count: int) -> dict[int, list[int]]:
    """Labels that share at least a fifth of each label's border."""
    joint = torch.zeros(count * count, dtype=torch.int64, device=labels.device)
    wide = labels.long()
    for a, b in ((wide[:, 1:], wide[:, :-1]), (wide[:, :, 1:], wide[:, :, :-1])):
        joint += torch.bincount((a * count + b).flatten(), minlength=count * count)
    table = joint.view(count, count).cpu()
    table = table + table.T
    table.fill_diagonal_(0)
    share = table / table.sum(1, keepdim=True).clamp(min=1)
    return {label: torch.nonzero(share[label] > 0.2).flatten().tolist() for label in range(count)}


def _choose(anatomy: Anatomy, areas: Tensor, supports: int, count: int, smallest: float, rng: random.Random, strict: bool) -> list[tuple[int, ...]]:
    """Up to `count` disjoint label sets, each seen in support and query.

    Args:
        strict: every support frame has to show at least one of them.
    """
    best: list[tuple[float, tuple[int, ...]]] = []
    for group in anatomy.groups:
        share = areas[:, list(group)].sum(1)
        if share[:supports].max() < smallest or share[supports:].max() < smallest or share.max() > 0.6:
            continue
        weight = 0.05 if anatomy.owner(group[0]) == 0 else 1.0
        weight *= float(share.max().clamp(max=0.1)) + 0.02  # rather large than tiny
        best.append((rng.random() ** (1 / weight), group))
    chosen: list[tuple[int, ...]] = []
    for _, group in sorted(best, reverse=True):
        if len(chosen) < count and not any(set(group) & set(other) for other in chosen):
            chosen.append(group)
    labels = [label for group in chosen for label in group]
    if strict and float(areas[:supports, labels].sum(1).min()) < smallest:
        return []
    return chosen


def episode(settings: SynthSettings, seed: int, device: torch.device | str = "cpu") -> Episode:
    """An episode: `seed` decides everything.

    Raises:
        RuntimeError: no anatomy in many shows as many classes as asked.
    """
    device = torch.device(device)
    rng = random.Random(seed)
    cpu = torch.Generator().manual_seed(rng.getrandbits(60))
    fields = cpu if device.type == "cpu" else torch.Generator(device).manual_seed(rng.getrandbits(60))
    supports, queries, classes = _counts(settings, rng)
    frames = supports + queries
    kind = "video" if (draw := rng.random()) < settings.video_share else "volume"
    if settings.video_share <= draw < settings.video_share + settings.single_share:
        kind = "single"
    rgb = rng.random() < settings.rgb_share
    modality = "rgb" if rgb else rng.choices(["ct", "mr", "ultrasound"], [4, 5, 2])[0]
    native = settings.size
    if rng.random() < settings.low_resolution_share:
        native = int(settings.size * rng.uniform(0.25, 0.9))
    for _ in range(20):
        plan = rng.choices([None, "cells", "vessels", "layers", "smear"], [4, 1.5, 1.5, 1, 2])[0] if rgb else None
        anatomy = draw_anatomy(rng, plan)
        if kind == "video" and rng.random() < 0.4:
            anatomy = with_tool(anatomy, rng)
        who = _who(supports, queries, kind, rng)
        subjects = draw_subjects(anatomy, int(who.max()) + 1, cpu, settings.strength)
        posed = subjects.indexed(who)
        if kind == "video":
            posed = _moving(posed, supports, rng, cpu)
        there = posed.to(device)
        for attempt in range(_ATTEMPTS):
            view = _look(anatomy, subjects, who, supports, kind, rng, wide=attempt > _ATTEMPTS // 2)
            strict = attempt < _ATTEMPTS // 2
            probe = paint(anatomy, there, to_anatomy(there, view.points(_PROBE, device)))
            areas = _areas(probe, len(anatomy.tissues))
            groups = _choose(anatomy, areas, supports, classes, settings.smallest * 1.3, rng, strict)
            if len(groups) < classes:
                continue
            seen = frozenset(torch.nonzero(areas.sum(0)).flatten().tolist())
            points = to_anatomy(there, view.points(native, device))
            labels = paint(anatomy, there, points, seen).view(frames, native, native)
            masks = _masks(labels, groups, settings.size)
            behind = None
            if modality in ("ct", "mr") and kind == "volume" and rng.random() < 0.25:
                deeper = replace(view, middle=view.middle + torch.tensor([0.0, 0.0, rng.uniform(0.02, 0.08)]))
                behind = paint(anatomy, there, to_anatomy(there, deeper.points(native, device)), seen)
                behind = behind.view(frames, native, native).long()
            if bool((masks[:supports].sum((2, 3)).amax(0) < settings.smallest * settings.size**2 / 2).any()):
                continue
            target = tuple(label for group in groups for label in group)
            scene = Scene(
                labels.long(),
                points.view(frames, 3, native, native),
                who.to(device),
                anatomy.tissues,
                target,
                borders=_borders(probe.view(frames, _PROBE, _PROBE), len(anatomy.tissues)),
                behind=behind,
                generator=fields,
                rng=rng,
            )
            pixels = render(scene, modality)
            if modality == "ultrasound":
                masks = masks & _lit(pixels[:, 0], settings.size)[:, None]
                if not bool(masks[:supports].any(-1).any(-1).any(0).all()):
                    continue
            if native != settings.size:
                pixels = F.interpolate(pixels, size=(settings.size,) * 2, mode="bilinear", align_corners=False)
            return Episode(pixels.contiguous(), masks, supports, modality, kind)
    raise RuntimeError(f"no anatomy shows {classes} classes; ask for fewer (seed {seed})")


def _lit(picture: Tensor, size: int) -> Tensor:
    """Where an ultrasound picture ``(F, s, s)`` shows anything at all: ``(F, size, size)`` bool."""
    near = F.max_pool2d((picture > 0).float()[:, None], 5, 1, 2)
    return F.interpolate(near, size=(size, size), mode="nearest")[:, 0] > 0


def _who(supports: int, queries: int, kind: str, rng: random.Random) -> Tensor:
    """Subject of each frame: support from one or several others, the query from the last."""
    if kind == "single":
        return torch.arange(supports + queries)
    others = rng.choice([1, supports])
    first = sorted([*range(others), *(rng.randrange(others) for _ in range(supports - others))])
    return torch.tensor(first + [others] * queries)


def _masks(labels: Tensor, groups: list[tuple[int, ...]], size: int) -> Tensor:
    """Masks ``(F, K, size, size)`` bool of each label set."""
    layers = []
    for group in groups:
        mask = labels == group[0]
        for label in group[1:]:
            mask |= labels == label
        layers.append(mask)
    masks = torch.stack(layers, 1)
    if labels.shape[-1] == size:
        return masks
    return F.interpolate(masks.float(), size=(size, size), mode="bilinear", align_corners=False) > 0.5


def subject_volume(
    seed_anatomy: int,
    seed_subject: int,
    shape: tuple[int, int, int] = (24, 96, 96),
    classes: int = 5,
    modality: str = "ct",
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """One patient's labelled volume: image ``(D, H, W)`` float32 in 0..1 and labels ``(D, H, W)`` uint8.

    Args:
        seed_anatomy: decides the organs, their label values 1..`classes` and how tissues look.
        seed_subject: decides the patient.
        modality: "ct" or "mr".
    """
    device = torch.device(device)
    slices, height, width = shape
    side = max(height, width)
    rng = random.Random(seed_anatomy)
    while True:
        anatomy = draw_anatomy(rng, "torso")
        mean = draw_subjects(anatomy, 1, torch.Generator().manual_seed(0), 0.0)
        look = torch.Generator().manual_seed(rng.getrandbits(60))
        everywhere = _stack(12, 0.7).points(_PROBE, torch.device("cpu"))
        stack = mean.indexed(torch.zeros(12, dtype=torch.int64))
        probe = paint(anatomy, stack, to_anatomy(stack, everywhere))
        share = _areas(probe, len(anatomy.tissues)).mean(0)
        skip = {label for region in anatomy.regions if region.optional for label in region.labels}
        skip.update(anatomy.regions[0].labels)
        organs = [label for label in range(1, len(share)) if label not in skip and 0.002 < share[label] < 0.2]
        if len(organs) >= classes:
            break
    organs = sorted(organs, key=lambda label: -float(share[label]))[:classes]
    appearance = random.Random(rng.getrandbits(60))
    cpu = torch.Generator().manual_seed(seed_subject)
    subject = draw_subjects(anatomy, 1, cpu, 0.7).indexed(torch.zeros(slices, dtype=torch.int64)).to(device)
    points = to_anatomy(subject, _stack(slices, 0.7).points(side, device))
    labels = paint(anatomy, subject, points).view(slices, side, side).long()
    fields = look if device.type == "cpu" else torch.Generator(device).manual_seed(look.initial_seed())
    borders = _borders(probe.view(12, _PROBE, _PROBE), len(anatomy.tissues))
    grid = points.view(slices, 3, side, side)
    who = torch.zeros(slices, dtype=torch.int64, device=device)
    own = random.Random(seed_subject)
    image = None
    scene = Scene(labels, grid, who, anatomy.tissues, tuple(organs), borders, None, fields, appearance)
    image = render(scene, modality)[:, 0]
    image = (image.clamp(min=1e-4) ** math.exp(own.gauss(0, 0.08))).clamp(0, 1)
    values = torch.zeros(len(anatomy.tissues), dtype=torch.uint8, device=device)
    for value, organ in enumerate(organs, 1):
        values[organ] = value
    top, left = (side - height) // 2, (side - width) // 2
    crop = (slice(None), slice(top, top + height), slice(left, left + width))
    return image[crop].contiguous(), values[labels][crop].contiguous()


def _stack(slices: int, reach: float) -> _View:
    """Upright axial slices of the whole body."""
    middle = torch.zeros(slices, 3)
    middle[:, 2] = torch.linspace(-reach, reach, slices)
    return _View(torch.eye(3), middle, torch.full((slices,), 1.05), torch.zeros(slices))
