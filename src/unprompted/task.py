"""A fitted task on disk: JSON, the support as npz, what was learned and adapted as safetensors."""

import json
import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from unprompted.backbones.adapted import Adapted, restored
from unprompted.backbones.base import Backbone
from unprompted.engine.views import Views
from unprompted.errors import (
    DataRefused,
    UnpromptedError,
    UnreadableFile,
    UsageError,
    WeightsUnavailable,
    out_of_memory,
)
from unprompted.intensity import Intensity
from unprompted.loading import load_backbone, make_method, method_name, settings_of
from unprompted.refinement.learn import restored as restored_refiners
from unprompted.segmenter import FittedSegmenter
from unprompted.support import Example, SupportSet

FORMAT = 1
_PLACE = ("case", "position", "depth", "in_mm", "spacing", "window")
_ADAPTED = "adapted.safetensors"
_REFINED = "refined.safetensors"
_KEYS = {
    "axis", "backbone", "classes", "examples", "input_size", "intensity", "method", "seed", "settings",
    "support_digest", "weights_sha256",
}  # fmt: skip
_DAMAGED = (
    OSError, EOFError, ValueError, KeyError, TypeError, AttributeError,
    BadZipFile, zlib.error, SafetensorError, DataRefused,
)  # fmt: skip


def save_task(task: FittedSegmenter, folder: Path) -> None:
    """Write a fitted task; the description comes last, so that a folder with one is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.json").unlink(missing_ok=True)  # an older task must not describe half of this one
    for optional in (_ADAPTED, _REFINED):
        (folder / optional).unlink(missing_ok=True)
    arrays: dict[str, Any] = {}
    for i, example in enumerate(task.support.examples):
        arrays[f"image_{i}"], arrays[f"labels_{i}"] = example.image, example.labels
    np.savez_compressed(folder / "support.npz", allow_pickle=False, **arrays)
    save_file({k: v.contiguous() for k, v in task.learned.items()}, folder / "learned.safetensors")
    if task.adapted is not None:
        save_file({k: v.contiguous() for k, v in task.adapted.tensors.items()}, folder / _ADAPTED)
    if task.refined.refiners:
        save_file(task.refined.tensors, folder / _REFINED)
    description = {
        "format": FORMAT,
        "method": method_name(task.method),
        "settings": settings_of(task.method),
        "views": list(task.views.names),
        "backbone": task.backbone.name,
        "input_size": task.backbone.input_size,
        "weights_sha256": task.adapted.base_digest if task.adapted else task.backbone.digest,
        "adapted": task.backbone.digest if task.adapted else None,
        "refinement": {"steps": task.refined.steps, "worlds": list(task.refined.refiners)},
        "intensity": task.intensity.as_dict(),
        "axis": task.axis,
        "classes": {str(value): name for value, name in task.support.classes.items()},
        "seed": task.seed,
        "support_digest": task.support.digest,
        "examples": [{name: getattr(e, name) for name in _PLACE} for e in task.support.examples],
    }
    part = folder / "task.json.part"
    part.write_text(json.dumps(description, indent=2) + "\n")
    part.replace(folder / "task.json")


def read_task(folder: Path) -> dict[str, Any]:
    """The description of a fitted task, as JSON types.

    Raises:
        UnreadableFile: the folder holds no task.
    """
    try:
        task: dict[str, Any] = json.loads((folder / "task.json").read_text())
        if task["format"] != FORMAT:
            raise ValueError(f"its format is {task['format']}, this version reads {FORMAT}")
        if missing := sorted(_KEYS - task.keys()):
            raise KeyError(", ".join(missing))
    except _DAMAGED as error:
        raise _no_task(folder, error) from error
    return task


def load_task(
    folder: Path, backbone: str | Backbone | None, device: str, adapters: Path | None = None
) -> FittedSegmenter:
    """Read what `save_task` wrote; raises as `FittedSegmenter.load` says."""
    task = read_task(folder)
    try:
        return _loaded(folder, task, backbone, device, adapters)
    except UnpromptedError:
        raise
    except Exception as error:  # entries of another type end anywhere
        raise out_of_memory(error) or _no_task(folder, error) from error


def _loaded(
    folder: Path, task: dict[str, Any], backbone: str | Backbone | None, device: str, adapters: Path | None
) -> FittedSegmenter:
    try:
        support = _read_support(folder, task)
        learned = load_file(folder / "learned.safetensors")
        intensity = Intensity.from_dict(task["intensity"])
        views = Views.named(task.get("views", []))
        refinement = task.get("refinement", {"steps": 0, "worlds": []})
        redrawing = load_file(folder / _REFINED) if refinement["worlds"] else {}
    except _DAMAGED as error:
        raise _no_task(folder, error) from error
    if backbone is None or isinstance(backbone, str):
        source = backbone or task["backbone"]
        backbone = load_backbone(source, input_size=task["input_size"], device=device)
    _check_weights(task, backbone)
    adapted = _read_adapted(folder, task, backbone) if adapters is None else read_adapters(adapters, backbone)
    worlds = refinement["worlds"] if adapters is None else []  # they have learned from other features
    refined = restored_refiners(
        refinement["steps"], redrawing if worlds else {}, views.geometries(task["axis"]), backbone.device
    )
    return FittedSegmenter.prepared(
        make_method(task["method"], task["settings"]),
        adapted.backbone if adapted else backbone,
        support,
        intensity,
        task["axis"],
        {name: torch.as_tensor(value) for name, value in learned.items()},
        task["seed"],
        views,
        adapted,
        refined,
    )


def read_adapters(folder: Path, backbone: Backbone) -> Adapted:
    """The backbone with what a fitted task trained in it, whatever the task's method.

    Raises:
        UnreadableFile: the folder holds no task.
        UsageError: the task trained nothing.
        WeightsUnavailable: it was fitted with other weights.
    """
    task = read_task(folder)
    _check_weights(task, backbone)
    adapted = _read_adapted(folder, task, backbone)
    if adapted is None or not adapted.tensors:
        raise UsageError(
            f"the task {folder} has no trained weights: it was fitted without training, or training did not "
            "help; leave --adapters out"
        )
    return adapted


def _read_adapted(folder: Path, task: dict[str, Any], backbone: Backbone) -> Adapted | None:
    if not task.get("adapted"):
        return None
    try:
        adapted = restored(backbone, load_file(folder / _ADAPTED))
    except _DAMAGED as error:
        raise _no_task(folder, error) from error
    if adapted.backbone.digest != task["adapted"]:
        raise _no_task(folder, ValueError(f"its {_ADAPTED} is not the one it describes"))
    return adapted


def _check_weights(task: dict[str, Any], backbone: Backbone) -> None:
    if backbone.digest != task["weights_sha256"]:
        wanted = str(task["weights_sha256"])
        raise WeightsUnavailable(
            f"the task was fitted with weights {wanted[:12]}… of {task['backbone']}, but "
            f"{backbone.name} has {backbone.digest[:12]}…; load the same weights or fit again"
        )


def _read_support(folder: Path, task: dict[str, Any]) -> SupportSet:
    # Opened here, since numpy leaves a file it cannot read open.
    with (folder / "support.npz").open("rb") as file, np.load(file, allow_pickle=False) as stored:
        examples = tuple(
            Example(stored[f"image_{i}"], stored[f"labels_{i}"], **_place(where))
            for i, where in enumerate(task["examples"])
        )
    support = SupportSet(examples, {int(value): name for value, name in task["classes"].items()})
    if support.digest != task["support_digest"]:
        raise ValueError("its support is not the one it describes")
    return support


def _place(where: dict[str, Any]) -> dict[str, Any]:
    found = dict(where)
    for name, length in (("spacing", 3), ("window", 2)):
        values = where.get(name)
        if values is not None and len(values) != length:
            raise ValueError(f"{name} has {len(values)} numbers, not {length}")
        found[name] = None if values is None else tuple(map(float, values))
    return found


def _no_task(folder: Path, error: Exception) -> UnreadableFile:
    return UnreadableFile(
        f"{folder} holds no fitted task ({error}); make one with `unprompted fit -s SUPPORT -o FOLDER`"
    )
