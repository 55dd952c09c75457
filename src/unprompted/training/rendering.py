"""How a label map looks: CT, MR, ultrasound and colour pictures of generated anatomy."""

import math
import random
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

TEXTURES = 4  # texture fields, from coarse to fine and one of fibres
_FIELD = 40  # nodes along each axis of the texture volume


@dataclass(frozen=True)
class Scene:
    """What is to be rendered.

    Attributes:
        labels: ``(F, S, S)`` int64.
        points: ``(F, 3, S, S)`` anatomy coordinates, to which texture is attached.
        subject: ``(F,)`` int64 subject of each frame; subjects share the protocol, not the shift.
        tissues: label to tissue word.
        target: labels that are asked for; other labels are given nearly their intensity.
        borders: labels next to each label; a target differs from these at least faintly.
        behind: labels of the far side of a thick slice, mixed in; None for a thin one.
        generator: random fields, on the device of `labels`.
        rng: random scalars.
    """

    labels: Tensor
    points: Tensor
    subject: Tensor
    tissues: tuple[str, ...]
    target: tuple[int, ...]
    borders: dict[int, list[int]]
    behind: Tensor | None
    generator: torch.Generator
    rng: random.Random

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers on the device of the scene."""
        return torch.randn(shape, generator=self.generator, device=self.labels.device)

    def rand(self, *shape: int) -> Tensor:
        """Uniform numbers in 0..1."""
        return torch.rand(shape, generator=self.generator, device=self.labels.device)

    @property
    def subjects(self) -> int:
        """An upper bound on the number of subjects: one a frame."""
        return self.labels.shape[0]


def _table(scene: Scene, values: list[float]) -> Tensor:
    return torch.tensor(values, device=scene.labels.device)


def smooth(picture: Tensor, sigma: float) -> Tensor:
    """``(F, S, S)`` blurred by a Gaussian of `sigma` pixels."""
    if sigma < 0.2:
        return picture
    reach = max(1, min(math.ceil(2.5 * sigma), picture.shape[-1] // 2 - 1))
    at = torch.arange(-reach, reach + 1, device=picture.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = (kernel / kernel.sum())[None, None]
    padded = F.pad(picture[:, None], (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel[..., None]), kernel[:, :, None])[:, 0]


def clouds(scene: Scene, cells: int, per_subject: bool = False) -> Tensor:
    """Smooth noise ``(F, S, S)`` of unit size with about `cells` spots a side."""
    count, size = scene.labels.shape[0], scene.labels.shape[-1]
    grid = scene.normal(count, 1, cells + 1, cells + 1)
    if per_subject:
        grid = grid[scene.subject]
    return F.interpolate(grid, size=(size, size), mode="bicubic", align_corners=True)[:, 0]


def textures(scene: Scene) -> Tensor:
    """Texture fields ``(F, S, S, TEXTURES)`` fixed to the anatomy, shifted per subject."""
    n = _FIELD
    white = scene.normal(1, 3, n, n, n)
    mid = F.avg_pool3d(white[:, 1:2], 3, 1, 1) * 4
    coarse = F.interpolate(scene.normal(1, 1, n // 5, n // 5, n // 5), size=(n, n, n), mode="trilinear") * 1.8
    volume = torch.cat([coarse, mid, white[:, :1]], 1)
    offset = (scene.normal(scene.subjects, 3) * 0.5)[scene.subject]
    scale = scene.rng.choice([0.6, 1.0, 1.8, 3.0])
    at = scene.points.permute(0, 2, 3, 1) * scale + offset[:, None, None]
    drawn = F.grid_sample(volume, at[None], mode="bilinear", padding_mode="reflection", align_corners=True)
    direction = scene.normal(3)
    direction = direction / direction.norm() * scene.rng.uniform(8, 60)
    fibres = ((at @ direction) + 2 * drawn[0, 0]).sin_()
    return torch.cat([drawn[0], fibres[None]]).permute(1, 2, 3, 0)


def _spread(scene: Scene, own: Tensor) -> Tensor:
    """Values per subject and label, ``(F, L)``, put on the picture ``(F, S, S)``."""
    own = own[scene.subject]
    picture = own.gather(1, scene.labels.flatten(1))
    if scene.behind is not None:
        picture = picture.lerp(own.gather(1, scene.behind.flatten(1)), 0.5)
    return picture.view(scene.labels.shape)


def _protocol(scene: Scene, levels: Tensor, moderate: float) -> Tensor:
    """Per-frame intensities ``(F, S, S)`` of label `levels` ``(L,)`` with a mild shift per subject."""
    n, count = scene.subjects, levels.shape[0]
    gamma = (scene.normal(n, 1) * 0.12 * moderate).exp()
    gain = (scene.normal(n, 1) * 0.06 * moderate).exp()
    own = levels.clamp(min=0)[None] ** gamma * gain + scene.normal(n, 1) * 0.025 * moderate
    own = own + scene.normal(n, count) * 0.02 * moderate
    return _spread(scene, own)


def _textured(scene: Scene, amplitude: float) -> Tensor:
    """Sum of the texture fields ``(F, S, S)``, weighted per label."""
    weights = scene.normal(len(scene.tissues), TEXTURES) * amplitude
    weights = weights * scene.rand(len(scene.tissues), TEXTURES).square()
    weights = weights * torch.tensor([0.6, 1.0, 1.0, 0.8], device=weights.device)
    return (textures(scene) * weights[scene.labels]).sum(-1)


def _levels(scene: Scene, low: float, high: float, count: int) -> list[float]:
    """Intensity of each label from a small palette, so that many labels look alike."""
    rng = scene.rng
    palette = [rng.uniform(low, high) for _ in range(count)]
    spread = 0.03 * (high - low)
    values = [rng.choice(palette) + rng.gauss(0, spread) for _ in scene.tissues]
    for label in scene.target:
        twin = rng.randrange(1, len(values))
        if twin not in scene.target and rng.random() < 0.7:
            values[twin] = values[label] + rng.gauss(0, spread)
    return values


def _contrasted(
    scene: Scene, values: list[float], least: float, low: float = 0.0, high: float = 1.0
) -> list[float]:
    """`values` with each target moved off its neighbours, as seen once clipped to `low`..`high`."""
    values, rng = list(values), scene.rng
    margin = least * rng.choice([1, 1, 2, 4])

    def shown(value: float) -> float:
        return min(max(value, low), high)

    for label in scene.target:
        near = [shown(values[other]) for other in scene.borders.get(label, [])]
        own = shown(values[label])
        candidates = [own + sign * margin * k for k in range(4) for sign in (1, -1)]
        candidates += [low + part * (high - low) for part in (0.5, 0.3, 0.8)]
        gaps = [min((abs(shown(c) - n) for n in near), default=margin) for c in candidates]
        enough = [c for c, gap in zip(candidates, gaps, strict=True) if gap >= margin * 0.9]
        best = enough[0] if enough else candidates[gaps.index(max(gaps))]
        if best != own:
            values[label] = best
    return values


def _ct(scene: Scene) -> Tensor:
    rng = scene.rng
    soft = _levels(scene, 20, rng.choice([90, 140, 200]), 5)
    fixed = {"air": -1000.0, "gas": -900.0, "fat": -100.0, "fluid": 10.0, "tool": 2500.0}
    bone, contrast = rng.uniform(250, 900), rng.uniform(60, 350)
    hounsfield = []
    for tissue, value in zip(scene.tissues, soft, strict=True):
        if tissue == "bone":
            value += bone
        elif tissue == "vessel":
            value = contrast + rng.gauss(0, 15)
        else:
            value = fixed.get(tissue, value)
        hounsfield.append(value)
    if rng.random() < 0.5:
        hounsfield[1] = rng.choice(
            [-100.0, -100.0, -100.0, -100.0, -750.0]
        )  # fat between the organs, or lung
    windows = [(40, 400), (50, 350), (40, 500), (0, 700), (100, 1500), (60, 250), (40, 160)]
    centre, width = rng.choices(windows, [3, 2, 2, 2, 1, 1, 0.5])[0]
    noise = rng.choice([3, 10, 20, 40])
    hounsfield = _contrasted(
        scene, hounsfield, max(10.0, 0.4 * noise, 0.025 * width), centre - width / 2, centre + width / 2
    )
    table = _table(scene, hounsfield)
    n = scene.subjects
    own = table + scene.normal(n, len(hounsfield)) * 8 + scene.normal(n, 1) * 6
    picture = _spread(scene, own)
    picture = smooth(picture, rng.uniform(0.3, 0.9))
    picture = picture + _textured(scene, rng.choice([4, 10, 25]))
    grain = smooth(scene.normal(*picture.shape), rng.choice([0.0, 0.5, 0.8]))
    picture = picture + grain / grain.std() * noise
    if rng.random() < 0.2:
        picture = picture + _streaks(scene) * rng.uniform(10, 60)
    return ((picture - centre) / width + 0.5).clamp(0, 1)


def _streaks(scene: Scene) -> Tensor:
    """Rays from a dense spot ``(F, S, S)``."""
    count, size = scene.labels.shape[0], scene.labels.shape[-1]
    at = torch.linspace(-1, 1, size, device=scene.labels.device)
    spot = (scene.normal(count, 2) * 0.4)[scene.subject]
    dy = at[None, :, None] - spot[:, :1, None]
    dx = at[None, None, :] - spot[:, 1:, None]
    angle = torch.atan2(dy, dx)
    rays = (angle * 6 + 1).sin() * (angle * 15 + scene.rng.uniform(0, 6)).sin()
    return rays / (1 + 3 * (dy.square() + dx.square()))


def _mr(scene: Scene) -> Tensor:
    rng = scene.rng
    values = _levels(scene, 0.1, 1.0, rng.randint(4, 7))
    for label, tissue in enumerate(scene.tissues):
        if tissue in ("air", "gas", "tool"):
            values[label] = rng.uniform(0, 0.06)
        elif tissue == "bone" and rng.random() < 0.5:
            values[label] = rng.uniform(0.05, 0.2)
    if len(scene.tissues) > 2 and rng.random() < 0.5:
        fluid = rng.choice([rng.uniform(0.1, 0.25), rng.uniform(0.8, 1.0)])
        values = [
            fluid + rng.gauss(0, 0.03) if t == "fluid" else v
            for t, v in zip(scene.tissues, values, strict=True)
        ]
    values = _contrasted(scene, values, 0.08)
    picture = _protocol(scene, _table(scene, values), rng.choice([0.5, 1, 1, 2]))
    picture = picture + _textured(scene, rng.choice([0.02, 0.04, 0.08])) * (scene.labels > 0)
    picture = smooth(picture, rng.uniform(0.3, 1.4))
    if rng.random() < 0.7:
        picture = (
            picture
            * (clouds(scene, rng.choice([1, 2, 3]), True) * rng.uniform(0.03, 0.2)).clamp(-0.6, 0.6).exp()
        )
    noise = rng.choice([0.005, 0.02, 0.04, 0.08])
    picture = (
        (picture + scene.normal(*picture.shape) * noise).square()
        + (scene.normal(*picture.shape) * noise).square()
    ).sqrt()
    low, high = rng.choice([(0.0, 0.995), (0.01, 0.98)])
    few = picture.flatten(1)[:, ::7]
    bottom = few.quantile(low, dim=1).mean()
    top = few.quantile(high, dim=1).mean()
    return ((picture - bottom) / (top - bottom).clamp(min=0.35)).clamp(0, 1)


def _ultrasound(scene: Scene) -> Tensor:
    rng = scene.rng
    device, size, count = scene.labels.device, scene.labels.shape[-1], scene.labels.shape[0]
    values = _levels(scene, 0.15, 0.7, rng.randint(3, 5))
    values = [
        rng.uniform(0.0, 0.1) if t in ("fluid", "vessel", "air") else v
        for t, v in zip(scene.tissues, values, strict=True)
    ]
    values = [
        rng.uniform(0.8, 1.1) if t in ("bone", "tool", "gas") else v
        for t, v in zip(scene.tissues, values, strict=True)
    ]
    values = _contrasted(scene, values, 0.16)
    echo = _protocol(scene, _table(scene, values), 1.0)
    echo = smooth(echo, rng.uniform(0.6, 1.8))
    edge = (echo[:, 1:] - echo[:, :-1]).abs()
    echo = echo + F.pad(edge, (0, 0, 1, 0)) * rng.uniform(0, 4) * (1 + 0.5 * clouds(scene, 6)).clamp(0)
    echo = (echo + _textured(scene, 0.1)).clamp(min=0.02)
    at = torch.linspace(-1, 1, size, device=device)
    apex = -1 - rng.choice([0.1, 0.4, 0.8, 5.0])
    depth_y, wide_x = (at[:, None] - apex), at[None, :] - rng.uniform(-0.1, 0.1)
    angle = torch.atan2(wide_x, depth_y)
    far = (depth_y.square() + wide_x.square()).sqrt()
    grain = rng.uniform(0.5, 1.1)
    waves = [smooth(scene.normal(count, size, size), grain) for _ in range(2)]
    waves = [F.avg_pool2d(w[:, None], (1, 3), 1, (0, 1))[:, 0] for w in waves]
    speckle = (waves[0].square() + waves[1].square()).sqrt()
    speckle = speckle / speckle.mean()
    picture = echo * speckle.lerp(torch.ones_like(speckle), rng.uniform(0.1, 0.5))
    near = far - far.min()
    picture = picture * torch.exp(-near * rng.uniform(-0.1, 0.6))
    for _ in range(rng.randint(0, 3)):
        middle = rng.uniform(-0.8, 0.8)
        place = angle / angle.abs().max() - middle
        cone = torch.sigmoid((place.abs() - rng.uniform(0.02, 0.12)) * 40)
        begin = torch.sigmoid((near - rng.uniform(0, 1.2)) * 20)
        picture = picture * (1 - begin * (1 - cone) * rng.uniform(0.4, 0.95))
    squeeze = rng.uniform(4, 40)
    picture = torch.log1p(picture * squeeze) / math.log1p(squeeze)
    if apex > -3 and rng.random() < 0.7:
        sector = (angle.abs() < rng.uniform(0.45, 0.8)) & (near > 0.1) & (far < far[-1, size // 2] * 0.99)
        picture = picture * sector
    # Nothing is ever above 1; what lies outside the sector stays exactly 0 and is nobody's organ.
    return picture.clamp(0, 1)


_PALETTES = {
    "endoscopy": ((0.75, 0.35, 0.28), 0.1),
    "fundus": ((0.75, 0.35, 0.12), 0.14),
    "dermoscopy": ((0.82, 0.62, 0.5), 0.2),
    "histology": ((0.85, 0.6, 0.78), 0.22),
    "smear": ((0.93, 0.85, 0.83), 0.3),
    "fluorescence": ((0.04, 0.05, 0.06), 0.4),
    "any": ((0.5, 0.5, 0.5), 0.3),
}


def _colour(scene: Scene) -> Tensor:
    rng = scene.rng
    device, size, labels = scene.labels.device, scene.labels.shape[-1], len(scene.tissues)
    style = rng.choice(list(_PALETTES))
    base, spread = _PALETTES[style]
    shades = [tuple(max(0.0, b + rng.gauss(0, spread) * 0.6) for b in base) for _ in range(rng.randint(3, 6))]
    rows = [[c + rng.gauss(0, 0.25 * spread) for c in rng.choice(shades)] for _ in range(labels)]
    if style == "endoscopy":  # every tissue is some pink: one brightness, small changes of hue
        rows = [[c * 0.7 + b * 0.3 for c, b in zip(row, base, strict=True)] for row in rows]
    rows[1] = [c + rng.gauss(0, 0.04) for c in base]
    rows[0] = [rng.choice([0.02, base[0] * 0.5])] * 3
    for label, tissue in enumerate(scene.tissues):
        if tissue == "tool":
            rows[label] = [rng.uniform(0.3, 0.8)] * 3
    for label in scene.target:  # not the colour of its neighbours, though at times close to it
        near = [rows[other] for other in scene.borders.get(label, [])]
        for _ in range(8):
            gap = min(
                (sum(abs(a - b) for a, b in zip(rows[label], other, strict=True)) for other in near),
                default=1.0,
            )
            if gap > 0.2:
                break
            rows[label] = [c + rng.gauss(0, 0.1) for c in rows[label]]
    n = scene.subjects
    table = torch.tensor(rows, device=device)[None] + scene.normal(n, labels, 3) * 0.02
    table = table * (1 + scene.normal(n, 1, 3) * 0.05)
    count = scene.labels.shape[0]
    flat = (scene.subject[:, None] * labels + scene.labels.flatten(1)).flatten()
    picture = table.reshape(-1, 3)[flat].view(count, size, size, 3).permute(0, 3, 1, 2)
    blur = rng.uniform(0.3, 1.2)
    picture = smooth(picture.flatten(0, 1), blur).view(count, 3, size, size)
    grey = _textured(scene, rng.choice([0.04, 0.1, 0.2]))
    hue = torch.tensor([1 + rng.gauss(0, 0.3) for _ in range(3)], device=device)
    picture = picture + grey[:, None] * hue[None, :, None, None]
    if style != "fluorescence":
        light = clouds(scene, 1, True) * 0.15 + clouds(scene, 3) * 0.04
        picture = picture * light.exp()[:, None]
    at = torch.linspace(-1, 1, size, device=device)
    radius = (at[:, None].square() + at[None].square()).sqrt()
    if style in ("endoscopy", "fundus", "dermoscopy") and rng.random() < 0.8:
        picture = picture * (1 - rng.uniform(0.1, 0.6) * radius.square() / 2)
        if rng.random() < 0.5:
            edge = rng.uniform(0.92, 1.25)
            picture = picture * torch.sigmoid((edge - radius) * 60)
    if style == "endoscopy":
        shine = (clouds(scene, rng.randint(8, 20)) - rng.uniform(2.0, 2.6)).clamp(0, 0.4) * 4
        picture = picture + shine[:, None]
    if style == "dermoscopy" and rng.random() < 0.5:  # hairs
        hair = ((clouds(scene, 3) * 14).sin().abs() < 0.06).float()
        picture = picture * (1 - 0.7 * smooth(hair, 0.6))[:, None]
    picture = picture + scene.normal(*picture.shape) * rng.choice([0.005, 0.015, 0.03])
    return picture.clamp(0, 1)


RENDERERS = {"ct": _ct, "mr": _mr, "ultrasound": _ultrasound, "rgb": _colour}


def render(scene: Scene, modality: str) -> Tensor:
    """Pictures ``(F, 3, S, S)`` in 0..1; grey ones repeat their channel."""
    picture = RENDERERS[modality](scene)
    if picture.dim() == 3:
        if scene.rng.random() < 0.06:
            picture = 1 - picture
        picture = picture[:, None].expand(-1, 3, -1, -1)
    return picture
