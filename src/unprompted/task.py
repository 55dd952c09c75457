"""A fitted task on disk: ``task.json``, ``support.npz`` and ``learned.safetensors``."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from unprompted.backbones.base import Backbone
from unprompted.errors import UnreadableFile, WeightsUnavailable
from unprompted.intensity import Intensity
from unprompted.segmenter import FittedSegmenter, load_backbone, make_method, method_name, settings_of
from unprompted.support import Example, SupportSet

FORMAT = 1


def save_task(task: FittedSegmenter, folder: Path) -> None:
    """Write a fitted task; the description comes last, so that a folder with one is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {}
    for i, example in enumerate(task.support.examples):
        arrays[f"image_{i}"], arrays[f"labels_{i}"] = example.image, example.labels
    np.savez_compressed(folder / "support.npz", allow_pickle=False, **arrays)
    save_file({k: v.contiguous() for k, v in task.learned.items()}, folder / "learned.safetensors")
    description = {
        "format": FORMAT,
        "method": method_name(task.method),
        "settings": settings_of(task.method),
        "backbone": task.backbone.name,
        "input_size": task.backbone.input_size,
        "weights_sha256": task.backbone.digest,
        "intensity": task.intensity.as_dict(),
        "axis": task.axis,
        "classes": {str(value): name for value, name in task.support.classes.items()},
        "seed": task.seed,
        "support_digest": task.support.digest,
        "examples": [
            {"case": e.case, "position": e.position, "depth": e.depth, "in_mm": e.in_mm}
            for e in task.support.examples
        ],
    }
    part = folder / "task.json.part"
    part.write_text(json.dumps(description, indent=2) + "\n")
    part.replace(folder / "task.json")


def load_task(folder: Path, backbone: str | Backbone | None, device: str) -> FittedSegmenter:
    """Read what `save_task` wrote; raises as `FittedSegmenter.load` says."""
    try:
        task = json.loads((folder / "task.json").read_text())
        with np.load(folder / "support.npz", allow_pickle=False) as stored:
            examples = tuple(
                Example(stored[f"image_{i}"], stored[f"labels_{i}"], **where)
                for i, where in enumerate(task["examples"])
            )
        learned = load_file(folder / "learned.safetensors")
        classes = {int(value): name for value, name in task["classes"].items()}
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UnreadableFile(
            f"{folder} holds no fitted task ({error}); make one with `unprompted fit -s SUPPORT -o FOLDER`"
        ) from error
    if backbone is None or isinstance(backbone, str):
        source = backbone or task["backbone"]
        backbone = load_backbone(source, input_size=task["input_size"], device=device)
    if backbone.digest != task["weights_sha256"]:
        raise WeightsUnavailable(
            f"the task was fitted with weights {task['weights_sha256'][:12]}… of {task['backbone']}, but "
            f"{backbone.name} has {backbone.digest[:12]}…; load the same weights or fit again"
        )
    return FittedSegmenter.prepared(
        make_method(task["method"], task["settings"]),
        backbone,
        SupportSet(examples, classes),
        Intensity.from_dict(task["intensity"]),
        task["axis"],
        {name: torch.as_tensor(value) for name, value in learned.items()},
        task["seed"],
    )
