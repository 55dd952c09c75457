"""Random anatomies: which shapes lie where, in plans from abdomen to blood smear."""

import math
import random
from dataclasses import replace

import torch
from torch import Tensor

from unprompted.training.draft import Draft, cells, folds, layers, organ, place, tube
from unprompted.training.shapes import AWAY, NODES, Anatomy, Region, Shapes

PLANS = {
    "abdomen": 2,
    "torso": 5,
    "head": 2.5,
    "heart": 3,
    "layers": 1.3,
    "cells": 1.2,
    "smear": 1,
    "vessels": 1,
    "mixture": 4,
}


def draw_anatomy(rng: random.Random, plan: str | None = None) -> Anatomy:
    """A random anatomy of one of the `PLANS`; the plan is drawn when None."""
    if plan is None:
        plan = rng.choices(list(PLANS), list(PLANS.values()))[0]
    draft = Draft(rng)
    body = draft.label("body")
    flat = plan in ("layers", "cells", "smear", "vessels") or (plan == "mixture" and rng.random() < 0.25)
    bounds = _outline(draft, plan, body, flat)
    inside = (draft.regions[0].levels[-1][1], body)
    taken: list[tuple[Tensor, float]] = []
    room = bounds * 0.85
    if rng.random() < {"head": 0.7, "mixture": 0.35, "torso": 0.25, "cells": 0.3}.get(plan, 0.1):
        folds(draft, inside)
    if plan == "layers" or rng.random() < 0.2:
        layers(draft, inside, rng.randint(3, 8) if plan == "layers" else rng.randint(1, 3))
    if plan == "abdomen":
        _abdomen(draft, room)
    if plan == "torso":
        _trunk(draft, taken, room)
    if plan == "heart":
        _heart(draft, taken, room, inside)
    if plan == "smear":
        _smear(draft)
    if plan == "cells":
        for _ in range(rng.randint(3, 6)):
            cells(draft, draft.normal(3) * 0.3, draft.uniform(0.3, 0.8), draft.logarithmic(0.06, 0.25))
    organs = {
        "vessels": (1, 3),
        "cells": (1, 3),
        "smear": (0, 1),
        "abdomen": (0, 3),
        "torso": (6, 10),
        "head": (5, 9),
    }.get(plan, (4, 8))
    for _ in range(rng.randint(*organs)):
        organ(draft, taken, room, 0.09, 0.45)
    for _ in range(rng.randint(4, 7) if plan == "vessels" else rng.randint(0, 3)):
        tube(draft, room, draft.logarithmic(0.02, 0.12))
    if plan not in ("cells", "smear") and rng.random() < 0.25:
        cells(draft, place(draft, taken, 0.2, room), draft.uniform(0.1, 0.3), draft.logarithmic(0.03, 0.09))
    for _ in range(rng.randint(0, 3)):
        organ(draft, taken, room, 0.05, 0.15)
    return draft.finished(plan)


def _outline(draft: Draft, plan: str, body: int, flat: bool) -> Tensor:
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
    elif rng.random() < 0.7 or plan == "abdomen":
        if plan == "abdomen":
            bounds = torch.tensor([draft.uniform(0.85, 0.95), draft.uniform(0.65, 0.85), 1.6])
        levels = ((0.0, draft.label("fat")), (draft.uniform(0.04, 0.2), body))
    half = (float(bounds[0]), float(bounds[1]), float(bounds[2]))
    draft.add(Region("blob", levels), (0, 0, 0), half, tilt=0, bumps=0.06, square=rng.random() * 0.6)
    return bounds


def _trunk(draft: Draft, taken: list[tuple[Tensor, float]], room: Tensor) -> None:
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


def _abdomen(draft: Draft, room: Tensor) -> None:
    """Named organs about where people have them: liver-like on the right, spine behind."""
    w, h = float(room[0]), float(room[1])

    def named(
        name: str,
        tissue: str,
        at: tuple[float, float, float],
        radii: tuple[float, float, float],
        *,
        bumps: float = 0.1,
        tilt: float = 0.15,
        core: str | None = None,
        mirrored: bool = False,
    ) -> None:
        levels: tuple[tuple[float, int], ...] = ((0.0, draft.label(tissue)),)
        if core is not None:
            levels += ((draft.uniform(0.3, 0.6), draft.label(core)),)
            draft.groups.append((levels[0][1], levels[1][1]))
        if name:
            draft.names[levels[0][1]] = name
        size = math.exp(draft.rng.gauss(0, 0.12))
        centre = (at[0] * w, at[1] * h, at[2])
        half = (radii[0] * size, radii[1] * size, radii[2] * size)
        draft.add(Region("blob", levels, mirrored=mirrored), centre, half, bumps=bumps, tilt=tilt)

    named("", "soft", (0.2, 0.62, -0.3), (0.11, 0.12, 1.2), mirrored=True)  # muscles beside the spine
    named("", "soft", (0.3, 0.85, 0.0), (0.25, 0.13, 3.0), mirrored=True)
    named("", "bone", (0.0, 0.72, 0.0), (0.14, 0.12, 3.0), bumps=0.25, core="soft")
    if draft.rng.random() < 0.6:
        named("", "gas", (0.5, 0.1, 1.0), (0.4, 0.5, 0.5), mirrored=True)
    named("liver-like", "soft", (-0.45, -0.08, 0.2), (0.45, 0.5, 0.5), bumps=0.35)
    named(
        "stomach-like",
        "soft",
        (0.35, -0.4, 0.3),
        (0.26, 0.2, 0.3),
        bumps=0.25,
        core=draft.rng.choice(["gas", "fluid"]),
    )
    named("spleen-like", "soft", (0.72, 0.3, 0.25), (0.19, 0.3, 0.33), bumps=0.25)
    named("left kidney-like", "soft", (0.45, 0.5, -0.1), (0.17, 0.16, 0.3), bumps=0.15)
    named("right kidney-like", "soft", (-0.45, 0.5, -0.15), (0.17, 0.16, 0.3), bumps=0.15)
    named("", "vessel", (-0.12, 0.38, 0.0), (0.06, 0.05, 3.0), tilt=0.05)
    named("aorta-like", "vessel", (0.05, 0.42, 0.0), (0.075, 0.075, 3.0), tilt=0.05)
    bend = torch.linspace(-1, 1, NODES)
    nodes = torch.stack([bend * 0.3, 0.12 * bend.square() - 0.05, 0.1 * bend], -1)
    label = draft.label("soft")
    draft.names[label] = "pancreas-like"
    draft.add(Region("tube", ((0.0, label),)), (0.1 * w, 0.1 * h, 0.05), (0.055,) * 3, nodes=nodes)
    named("gallbladder-like", "fluid", (-0.25, -0.15, -0.1), (0.08, 0.1, 0.14), tilt=0.6)


def _heart(draft: Draft, taken: list[tuple[Tensor, float]], room: Tensor, inside: tuple[int, ...]) -> None:
    """A thick-walled cavity with a crescent cavity at its side; lungs at times."""
    rng = draft.rng
    wall, cavity, crescent = draft.label("soft"), draft.label("fluid"), draft.label("fluid")
    radius = draft.uniform(0.16, 0.35)
    if rng.random() < 0.5:
        lung = Region("blob", ((0.0, draft.label("gas")),), mirrored=True, within=inside)
        draft.add(lung, (0.45 * float(room[0]), 0.0, 0.0), (0.4, 0.6, 1.2), bumps=0.2, tilt=0.3)
    centre = place(draft, taken, radius, room * 0.6)
    turn = draft.uniform(0, 2 * math.pi)
    side = centre + torch.tensor([math.cos(turn), math.sin(turn), 0.0]) * radius * draft.uniform(0.6, 1.0)
    draft.add(
        Region("blob", ((0.0, crescent),)),
        side,
        (radius * 1.1, radius * 1.1, radius * 1.5),
        tilt=0.3,
        bumps=0.2,
    )
    muscle = Region("blob", ((0.0, wall), (draft.uniform(0.2, 0.5), cavity)))
    draft.add(muscle, centre, (radius, radius, radius * 1.6), tilt=0.3, bumps=0.12)
    draft.groups += [(wall, cavity), (wall, cavity, crescent)]


def _smear(draft: Draft) -> None:
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
    draft = Draft(rng)
    draft.tissues = list(anatomy.tissues)
    span = torch.linspace(-1, 1, NODES)[:, None] * torch.tensor(
        [draft.uniform(0.5, 1.5), draft.uniform(-1, 1), 0.1]
    )
    radius = draft.logarithmic(0.03, 0.12)
    draft.add(Region("tube", ((0.0, draft.label("tool")),)), (0, 0, 0), (radius,) * 3, nodes=span)
    shapes = Shapes(
        **{
            name: torch.cat([value, draft.rows[0][name][None]])
            for name, value in vars(anatomy.shapes).items()
        }
    )
    return replace(
        anatomy, regions=anatomy.regions + tuple(draft.regions), shapes=shapes, tissues=tuple(draft.tissues)
    )
