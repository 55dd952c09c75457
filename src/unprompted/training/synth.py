"""Endless labelled episodes of generated anatomy: support subjects with masks, a query subject to segment.

Equal settings, seed and device type give equal episodes.
"""

import math
import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from unprompted.training.anatomy import draw_anatomy, with_tool
from unprompted.training.rendering import Scene, render
from unprompted.training.shapes import Anatomy, draw_subjects, paint, to_anatomy
from unprompted.training.views import View, look, moving

_PROBE = 40  # side of the coarse pictures on which views and classes are chosen
_ATTEMPTS = 12
VOLUME_CLASSES = (
    "liver-like",
    "spleen-like",
    "left kidney-like",
    "right kidney-like",
    "aorta-like",
    "stomach-like",
    "gallbladder-like",
    "pancreas-like",
)


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


def _counts(settings: SynthSettings, rng: random.Random) -> tuple[int, int, int]:
    return (
        rng.randint(*settings.supports),
        rng.randint(*settings.query_span),
        rng.randint(*settings.classes),
    )


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


def _choose(
    anatomy: Anatomy,
    areas: Tensor,
    supports: int,
    count: int,
    smallest: float,
    rng: random.Random,
    strict: bool,
) -> list[tuple[int, ...]]:
    """Up to `count` disjoint label sets, each seen in support and query.

    When strict, every support frame has to show at least one of them.
    """
    best: list[tuple[float, tuple[int, ...]]] = []
    for group in anatomy.groups:
        share = areas[:, list(group)].sum(1)
        if share[:supports].max() < smallest or share[supports:].max() < smallest or share.max() > 0.6:
            continue
        owner = anatomy.owner(group[0])
        weight = 0.03 if owner == 0 else 0.2 if anatomy.regions[owner].kind == "folds" else 1.0
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
        plan = (
            rng.choices([None, "cells", "vessels", "layers", "smear"], [4, 1.5, 1.5, 1, 2])[0]
            if rgb
            else None
        )
        anatomy = draw_anatomy(rng, plan)
        if kind == "video" and rng.random() < 0.4:
            anatomy = with_tool(anatomy, rng)
        who = _who(supports, queries, kind, rng)
        subjects = draw_subjects(anatomy, int(who.max()) + 1, cpu, settings.strength)
        posed = subjects.indexed(who)
        if kind == "video":
            posed = moving(posed, supports, rng, cpu)
        there = posed.to(device)
        for attempt in range(_ATTEMPTS):
            view = look(anatomy, subjects, who, supports, kind, rng, wide=attempt > _ATTEMPTS // 2)
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
                pixels = F.interpolate(
                    pixels, size=(settings.size,) * 2, mode="bilinear", align_corners=False
                )
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

    Slices are axial and upright, from the feet up. `VOLUME_CLASSES` names the label values.

    Args:
        seed_anatomy: decides the usual size of the organs and how tissues look.
        seed_subject: decides the patient.
        shape: slices, rows and columns.
        classes: how many organs are labelled, 1..`classes` in the order of `VOLUME_CLASSES`.
        modality: "ct" or "mr".
        device: where everything is computed.
    """
    device = torch.device(device)
    slices, height, width = shape
    side = max(height, width)
    rng, own = random.Random(seed_anatomy), random.Random(seed_subject)
    anatomy = draw_anatomy(rng, "abdomen")
    value_of = {name: value for value, name in enumerate(VOLUME_CLASSES[:classes], 1)}
    organs = [label for label, name in anatomy.names.items() if name in value_of]
    who = torch.zeros(slices, dtype=torch.int64)
    patient = draw_subjects(anatomy, 1, torch.Generator().manual_seed(own.getrandbits(60)), 0.6)
    patients = patient.indexed(who).to(device)
    points = to_anatomy(patients, _stack(slices).points(side, device))
    labels = paint(anatomy, patients, points).view(slices, side, side)
    scene = Scene(
        labels.long(),
        points.view(slices, 3, side, side),
        who.to(device),
        anatomy.tissues,
        tuple(organs),
        borders=_usual_borders(anatomy),
        behind=None,
        generator=torch.Generator(device).manual_seed(seed_anatomy),
        rng=rng,
    )
    image = render(scene, modality)[:, 0]
    image = image.clamp(min=1e-4) ** math.exp(own.gauss(0, 0.08))
    values = torch.zeros(len(anatomy.tissues), dtype=torch.uint8, device=device)
    for label in organs:
        values[label] = value_of[anatomy.names[label]]
    top, left = (side - height) // 2, (side - width) // 2
    crop = (slice(None), slice(top, top + height), slice(left, left + width))
    return image[crop].contiguous(), values[labels.long()][crop].contiguous()


def _usual_borders(anatomy: Anatomy) -> dict[int, list[int]]:
    """What touches what in the undeformed anatomy, hence the same for all its subjects."""
    mean = draw_subjects(anatomy, 1, torch.Generator(), 0.0).indexed(torch.zeros(12, dtype=torch.int64))
    points = to_anatomy(mean, _stack(12).points(_PROBE, torch.device("cpu")))
    return _borders(paint(anatomy, mean, points).view(12, _PROBE, _PROBE), len(anatomy.tissues))


def _stack(slices: int) -> View:
    """Upright axial slices through the whole body."""
    middle = torch.zeros(slices, 3)
    middle[:, 2] = torch.linspace(-0.7, 0.75, slices)
    return View(torch.eye(3), middle, torch.full((slices,), 1.05), torch.zeros(slices))
