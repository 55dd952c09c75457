"""Seconds a slice against transformers' own video session, on SAM 2.1's shapes with random weights.

    python benchmarks/engine/speed.py --model tiny --size 512 --classes 1 4 8 --slices 24 -o RESULT.json

Both see the same frames, the same first masks and the same weights; runs alternate, so that the ratio stands
where the machine is shared. Seconds are those of the processor, over all threads. Masks are compared by IoU
with those of transformers in float32.

The view `near` looks for a class around where it was, and random weights draw masks everywhere. So in runs
with it the decoder does its work, and then the discs that are shown take the place of its masks, as of a
model that finds them; such masks are not compared.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from machine import described
from torch import Tensor, nn
from transformers import Sam2VideoConfig, Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

from unprompted.backbones.base import Decoded
from unprompted.backbones.sam2 import Sam2Backbone, computing_in
from unprompted.backbones.weights import resized_config
from unprompted.engine.frames import EncodedFrames
from unprompted.engine.nearness import Near
from unprompted.engine.sweep import sweep
from unprompted.engine.through import Through
from unprompted.methods.aug_match import AugMatch
from unprompted.methods.base import Method, SupportFrames
from unprompted.methods.ofl_sam2 import OflSam2
from unprompted.methods.sam2_mask import Sam2Mask

BASE_PLUS = {
    "hidden_size": 112,
    "num_attention_heads": 2,
    "blocks_per_stage": [2, 3, 16, 3],
    "embed_dim_per_stage": [112, 224, 448, 896],
    "num_attention_heads_per_stage": [2, 4, 8, 16],
    "window_size_per_stage": [8, 4, 14, 7],
    "global_attention_blocks": [12, 16, 20],
    "window_positional_embedding_background_size": [14, 14],
}
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def backbone_of(shape: str, size: int) -> Sam2Backbone:
    """A random model: layers at unit gain, so that masks are not trivial."""
    config = Sam2VideoConfig()
    if shape == "base-plus":
        for name, value in BASE_PLUS.items():
            setattr(config.vision_config.backbone_config, name, value)
        config.vision_config.backbone_channel_list = [896, 448, 224, 112]
    torch.manual_seed(0)
    model = Sam2VideoModel(resized_config(config, size))
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            module.reset_parameters()
    model.eval().requires_grad_(False)
    model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(10.0)  # every object is there, so masks show
    return Sam2Backbone(model, f"random {shape}")


def film(size: int, frames: int, classes: int) -> tuple[np.ndarray, Tensor]:
    """Discs that drift over a smooth ground, ``(T, S, S, 3)`` in 0..1, and their masks ``(T, K, S, S)``."""
    rows, columns = np.mgrid[:size, :size] / size
    shown = np.zeros((frames, size, size, 3), np.float32)
    masks = np.zeros((frames, classes, size, size), bool)
    for t in range(frames):
        shown[t] = (0.35 + 0.2 * np.sin(5 * rows + 3 * columns + 0.1 * t))[..., None]
        for k in range(classes):
            centre = 0.2 + 0.2 * (k % 4) + 0.005 * t, 0.3 + 0.4 * (k // 4)
            inside = np.hypot(rows - centre[0], columns - centre[1]) < 0.08
            shown[t][inside] = (0.9 - 0.1 * k, 0.5, 0.1 + 0.1 * k)
            masks[t, k] = inside
    return shown, torch.from_numpy(masks)


@dataclass(frozen=True, eq=False)
class Finding(Through):
    """A backbone that decodes, and then gives the masks of a film instead, frame after frame.

    Attributes:
        masks: ``(T, K, S, S)`` bool, given one by one.
    """

    masks: Iterator[Tensor]

    def decode(self, *given: Any) -> Decoded:
        """The next masks of the film, with the decoder's other answers."""
        decoded = self.whole.decode(*given)
        full = 20 * next(self.masks).float()[:, None] - 10
        low = F.interpolate(full, decoded.logits.shape[-2:])
        return replace(decoded, logits=low, logits_full=full)


@torch.no_grad()
def of_transformers(backbone: Sam2Backbone, shown: np.ndarray, masks: Tensor) -> Tensor:
    """Masks ``(T - 1, K, h, w)`` of transformers' session."""
    pixels = ((torch.from_numpy(shown) - MEAN) / STD).permute(0, 3, 1, 2)
    side = shown.shape[1]
    session = Sam2VideoInferenceSession(
        video=pixels, video_height=side, video_width=side, dtype=torch.float32
    )
    for k, mask in enumerate(masks[0], start=1):
        session.add_mask_inputs(session.obj_id_to_idx(k), 0, mask.float()[None, None])
        session.obj_with_new_inputs.append(k)
    found = [backbone.model(session, frame_idx=t).pred_masks[:, 0] for t in range(len(shown))]
    return torch.stack(found[1:]) > 0


@torch.no_grad()
def of_ours(
    backbone: Sam2Backbone, shown: np.ndarray, masks: Tensor, method: Method, near: bool = False
) -> Tensor:
    """The same, of a method here; its support is the first frame."""
    labels = torch.zeros(masks.shape[2:], dtype=torch.int16)
    for k, mask in enumerate(masks[0], start=1):
        labels[mask] = k
    pixels = torch.from_numpy(shown[:1]).permute(0, 3, 1, 2)
    support = SupportFrames(pixels, labels[None], masks.shape[1], (0,), (0,))
    fitted = method.prepare(backbone, support, {})
    seen = Near(Finding(backbone, iter(masks[1:]))) if near else backbone
    steps = dict(sweep(method, seen, fitted, EncodedFrames(backbone, shown[1:])))
    return torch.stack([steps[t].decoded.logits[:, 0] for t in range(len(shown) - 1)]) > 0


def timed(run: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Processor seconds and masks."""
    begun = time.process_time()
    found = run()
    return time.process_time() - begun, found


def overlap(a: Tensor, b: Tensor) -> float:
    """Mean IoU over classes; both empty is 1."""
    both, either = (a & b).sum(dim=(0, 2, 3)), (a | b).sum(dim=(0, 2, 3))
    return float(torch.where(either > 0, both / either.clamp(min=1), torch.ones_like(both)).float().mean())


def main() -> None:
    """Alternate the runs and write their ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=["tiny", "base-plus"], default="tiny")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--classes", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--slices", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int)
    parser.add_argument(
        "--methods", action="store_true", help="ofl-sam2 and aug-match against sam2-mask, too"
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    chosen = parser.parse_args()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    backbone, rows = backbone_of(chosen.model, chosen.size), []
    half = computing_in(torch.bfloat16, copy.deepcopy(backbone.model))
    for classes in chosen.classes:
        shown, masks = film(chosen.size, chosen.slices + 1, classes)
        ours = partial(of_ours, shown=shown, masks=masks)
        plain = partial(ours, method=Sam2Mask(supports=1))
        runs: dict[str, Callable[[], Tensor]] = {
            "transformers": partial(of_transformers, backbone, shown, masks),
            "sam2-mask": partial(plain, backbone),
            "sam2-mask, bf16": partial(plain, Sam2Backbone(half, "half")),
            "sam2-mask, bf16, near": partial(plain, Sam2Backbone(half, "half"), near=True),
            "sam2-mask, bf16, memory pool 2": partial(plain, Sam2Backbone(half, "half", 2)),
        }
        if chosen.methods:
            runs["ofl-sam2"] = partial(ours, backbone, method=OflSam2(learner=True))
            runs["aug-match"] = partial(ours, backbone, method=AugMatch(augmented=64))
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(chosen.repeats):
            found = {}
            for name, run in runs.items():
                spent, found[name] = timed(run)
                seconds[name].append(spent)
        row = {name: round(median(spent) / chosen.slices, 3) for name, spent in seconds.items()}
        covered = float(found["transformers"].float().mean())
        faster = {name: round(row["transformers"] / value, 3) for name, value in row.items()}
        cost = {name: round(value / row["sam2-mask"], 3) for name, value in row.items()}
        ious = {
            name: round(overlap(found["transformers"], drawn), 4)
            for name, drawn in found.items()
            if "near" not in name
        }
        rows.append(
            {
                "classes": classes,
                "seconds_a_slice": row,
                "times faster than transformers": faster,
                "of the time of sam2-mask": cost,
                "iou with transformers": ious,
                "covered": covered,
            }
        )
        print(rows[-1], flush=True)
        settings = {n: v for n, v in vars(chosen).items() if n != "output"}
        result = {"machine": described(), "settings": settings, "runs": rows}
        chosen.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
