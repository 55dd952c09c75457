"""Where the frames of an episode look, and how their subject moves."""

import math
import random
from dataclasses import dataclass

import torch
from torch import Tensor

from unprompted.training.shapes import AWAY, Anatomy, Subjects, rotation


@dataclass(frozen=True)
class View:
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
    upright = rng.random() < 0.4  # as readers give volumes: the front of the body on top
    frame = torch.eye(3)[list(order)]
    if not upright:
        frame = frame * torch.tensor([[rng.choice([-1.0, 1.0])] for _ in range(3)])
    if not upright and rng.random() < 0.2:
        frame = frame[[1, 0, 2]]
    return frame @ rotation(torch.tensor([rng.gauss(0, 0.12) for _ in range(3)]))


def moving(subjects: Subjects, first: int, rng: random.Random, generator: torch.Generator) -> Subjects:
    """Frames ``first..`` of one subject set in motion: breathing, beating and drifting organs."""
    count, regions = subjects.shapes.centre.shape[:2]
    time = torch.zeros(count)
    time[first:] = torch.arange(count - first) * rng.choice([0.15, 0.3, 0.6])
    cycle = (
        torch.sin(time[:, None] + torch.rand(regions, generator=generator)[None] * 1.5) * (time > 0)[:, None]
    )
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


def look(
    anatomy: Anatomy,
    subjects: Subjects,
    who: Tensor,
    supports: int,
    kind: str,
    rng: random.Random,
    wide: bool,
) -> View:
    """Views around one region: query positions in a row, support positions nearby."""
    count = len(who)
    weights = [0.0] + [1.0] * (len(anatomy.regions) - 1)
    for index, region in enumerate(anatomy.regions):
        if anatomy.tissues[region.labels[0]] == "tool" or region.kind == "folds":
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
        reach = float(spread[spread < AWAY / 2].mean()) + reach
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
    return View(frame, middle, halves, spin)
