"""Our baseline equals transformers' own tracking on the same random weights, frame by frame.

One support frame with two masks is transformers' frame 0; our query frame t is its frame t + 1. The
number of pointer steps is scaled by a constant on our side, as transformers does when it streams (and
otherwise from 16 frames on).
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from transformers import Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

from unprompted.backbones.base import MemoryBank
from unprompted.backbones.sam2 import Sam2Backbone
from unprompted.backbones.tiny import TinyShape
from unprompted.engine.frames import EncodedFrames
from unprompted.engine.sweep import sweep
from unprompted.geometry import Grid
from unprompted.images import Volume
from unprompted.intensity import Intensity
from unprompted.methods.base import SupportFrames
from unprompted.methods.sam2_mask import Sam2Mask

TOLERANCE = 1e-4
SMALL = {
    "widths": (16, 32, 48, 64),
    "blocks": (1, 1, 1, 1),
    "channels": 128,
    "memory_layers": 1,
    "decoder_mlp": 64,
}
PRESENT, ABSENT = 3, 2  # seeds of models that see both objects in every frame, or in none
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


class Tracked(NamedTuple):
    logits: torch.Tensor  # (T, K, S/4, S/4)
    presence: torch.Tensor  # (T, K)


def make_backbone(size, seed):
    """Random weights large enough that masks, presence and every embedding matter.

    Memory tokens are rounded to bfloat16 on both sides, so that float noise now and then becomes a
    whole rounding step. At these weights that noise reaches 3e-5, an error in the number that scales
    pointer steps 2e-4, and dropped memory 9e-2; with much larger weights noise alone would exceed 1e-4.
    """
    torch.manual_seed(seed)
    model = Sam2VideoModel(TinyShape(256, **SMALL).config())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "embed" not in name and "encoding" not in name:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
            elif "norm" not in name:
                parameter.normal_(std=0.1)
        for name, parameter in model.named_parameters():
            if name.startswith(("no_memory", "memory_temporal", "no_object", "occlusion")):
                parameter.normal_(std=0.5)
            if name.startswith(("object_pointer_proj.proj_out", "temporal_positional_encoding_projection")):
                parameter.mul_(2)  # a pointer is one token among hundreds; let it be heard
            if "output_hypernetworks_mlps" in name and "proj_out" in name:
                parameter.mul_(0.25)
    resized = Sam2VideoModel(TinyShape(size, **SMALL).config())
    resized.load_state_dict(model.state_dict())
    return Sam2Backbone(resized.eval(), "random")


def make_film(size, frames):
    """A bright and a dark disc that drift over a smooth ground: ``(T, S, S, 3)`` in 0..255, whole."""
    source = np.random.default_rng(1)
    rows, columns = np.mgrid[:size, :size] / size
    film = np.zeros((frames, size, size, 3), np.float32)
    for t in range(frames):
        film[t] = (90 + 60 * np.sin(5 * rows + 3 * columns + 0.1 * t))[..., None]
        for k, level in enumerate((230, 20)):
            film[t][inside(rows, columns, t, k)] = (level, 128, 255 - level)
    return np.clip(film + source.normal(0, 4, film.shape), 0, 255).round().astype(np.float32)


def inside(rows, columns, t, k):
    return np.hypot(rows - 0.35 - 0.01 * t, columns - 0.3 - 0.35 * k + 0.01 * t) < 0.12


def first_masks(size):
    rows, columns = np.mgrid[:size, :size] / size
    return torch.from_numpy(np.stack([inside(rows, columns, 0, k) for k in range(2)]))


@torch.no_grad()
def tracked_by_transformers(model, film, masks, streaming):
    size = film.shape[1]
    pixels = ((torch.from_numpy(film) / 255 - MEAN) / STD).permute(0, 3, 1, 2)
    session = Sam2VideoInferenceSession(
        video=None if streaming else pixels, video_height=size, video_width=size, dtype=torch.float32
    )
    for k, mask in enumerate(masks):
        session.add_mask_inputs(session.obj_id_to_idx(k + 1), 0, mask.float()[None, None])
        session.obj_with_new_inputs.append(k + 1)
    if streaming:
        found = [model(session, frame=frame[None]) for frame in pixels]
    else:
        found = [model(session, frame_idx=t) for t in range(len(film))]
    return Tracked(
        torch.stack([f.pred_masks[:, 0] for f in found[1:]]),
        torch.stack([f.object_score_logits[:, 0] for f in found[1:]]),
    )


class Forgetful(Sam2Mask):
    """The negative control: the baseline without the memory of its own predictions."""

    def step(self, backbone, state, features, memory, at):
        return replace(super().step(backbone, state, features, memory, at), entry=None)


class WithoutSupport(Sam2Mask):
    """The negative control: the baseline that remembers its predictions only."""

    def begin(self, fitted, pooled, start):
        return super().begin(fitted, pooled, start)[0], MemoryBank()


def tracked_by_us(backbone, film, masks, method=None):
    size = film.shape[1]
    method = method or Sam2Mask(supports=1)
    pixels = torch.from_numpy(film[:1] / 255).permute(0, 3, 1, 2)
    labels = (masks[0] * 1 + masks[1] * 2).to(torch.uint8)[None]
    fitted = method.prepare(backbone, SupportFrames(pixels, labels, 2, (0,), (0,)), {})
    query = Volume(film[1:], Grid.without_mm((len(film) - 1, size, size)), axis="t")
    frames = EncodedFrames(backbone, Intensity("rgb", 0, 255).apply(query.voxels))
    steps = dict(sweep(method, backbone, fitted, frames))
    decoded = [steps[t].decoded for t in range(len(film) - 1)]
    return Tracked(
        torch.stack([d.logits[:, 0] for d in decoded]), torch.stack([d.presence[:, 0] for d in decoded])
    )


def largest_difference(a, b):
    return max(float((x - y).abs().max()) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(
    ("size", "frames", "streaming"),
    [(256, 19, False), (256, 10, True), (512, 10, True)],
    ids=["256 px, whole video", "256 px, streaming", "512 px, streaming"],
)
def test_the_baseline_equals_the_tracking_of_transformers(single_thread, size, frames, streaming):
    backbone, film, masks = make_backbone(size, PRESENT), make_film(size, frames), first_masks(size)
    theirs = tracked_by_transformers(backbone.model, film, masks, streaming)
    ours = tracked_by_us(backbone, film, masks)
    assert ours.logits.shape == (frames - 1, 2, size // 4, size // 4)
    assert largest_difference(ours, theirs) < TOLERANCE

    covered = (theirs.logits > 0).float().mean(dim=(2, 3))
    assert float(covered.min()) > 0.1
    assert float(covered.max()) < 0.9
    assert float((theirs.logits[:, 0] - theirs.logits[:, 1]).abs().max()) > 100 * TOLERANCE


def test_absent_objects_are_remembered_as_transformers_does(single_thread):
    backbone, film, masks = make_backbone(256, ABSENT), make_film(256, 10), first_masks(256)
    theirs = tracked_by_transformers(backbone.model, film, masks, True)
    ours = tracked_by_us(backbone, film, masks)
    assert bool((theirs.presence < 0).all())
    assert bool((ours.logits == -1024).all())
    assert largest_difference(ours, theirs) < TOLERANCE


@pytest.mark.parametrize("seed", [PRESENT, ABSENT])
@pytest.mark.parametrize("method", [Forgetful(supports=1), WithoutSupport(supports=1)])
def test_dropping_memory_would_be_noticed(single_thread, method, seed):
    backbone, film, masks = make_backbone(256, seed), make_film(256, 4), first_masks(256)
    whole, part = tracked_by_us(backbone, film, masks), tracked_by_us(backbone, film, masks, method)
    assert largest_difference(whole, part) > 100 * TOLERANCE
