"""From a pretraining checkpoint to what ships: fp16 safetensors, configuration, checksum and card."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from unprompted.backbones.tiny import TinyShape
from unprompted.training.recipes import PretrainRecipe

WEIGHTS, CONFIG, CARD, CHECKSUM = "model.safetensors", "config.json", "README.md", "sha256.txt"

_CARD = """# Built-in backbone of unprompted

A small SAM2 ({parameters:.1f} M parameters, {size} px input; every module is transformers' `Sam2VideoModel`
with its own widths) pretrained in context on generated anatomy: support frames of one subject with
their masks are in memory, frames of another subject are segmented. No real image was used.

| | |
|---|---|
| recipe | `unprompted pretrain --recipe {name}` |
| steps | {step} of {steps} |
| stages | {stages} |
| hardware | {hardware} |
| hours | {hours:.2f} |
| Dice on held-out generated episodes | {dice} |
| sha256 of `model.safetensors` | `{sha256}` |
| licence | Apache-2.0 |

Not a medical device. Intended as the offline default of `unprompted`; larger SAM2 checkpoints can be
named with `--backbone`.
"""


def export(
    checkpoint: Path, folder: Path, recipe: PretrainRecipe, name: str, *, hardware: str, dice: float | None
) -> str:
    """Write the averaged weights of a checkpoint as a loadable folder.

    Args:
        checkpoint: what `pretrain` wrote.
        folder: where to put configuration, weights, card and checksum.
        recipe: the recipe the checkpoint belongs to.
        name: its name.
        hardware: what it was trained on, for the card.
        dice: Dice on held-out generated episodes, for the card.

    Returns:
        SHA-256 of the weights file.
    """
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    folder.mkdir(parents=True, exist_ok=True)
    halves = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in content["average"].items()}
    save_file(halves, folder / WEIGHTS, metadata={"format": "pt"})
    config = TinyShape(**vars(recipe.shape)).config().to_dict()
    config["architectures"] = ["Sam2VideoModel"]
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    sha256 = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    (folder / CHECKSUM).write_text(f"{sha256}  {WEIGHTS}\n")
    card = _CARD.format(
        parameters=sum(v.numel() for v in halves.values()) / 1e6,
        size=recipe.shape.input_size,
        name=name,
        step=content["step"],
        steps=recipe.steps,
        stages=", ".join(f"{s.steps} steps of {s.batch} at {s.size} px" for s in recipe.stages),
        hardware=hardware,
        hours=content["elapsed_s"] / 3600,
        dice="not measured" if dice is None else f"{dice:.3f}",
        sha256=sha256,
    )
    (folder / CARD).write_text(card)
    return sha256
