"""SAM2 models out of weights: a hub id, a local folder, or a checkpoint in SAM2's original format.

| source | example |
|---|---|
| hub id | ``facebook/sam2.1-hiera-tiny``, ``org/name@revision`` |
| folder | ``config.json`` and ``model.safetensors``, as transformers writes them |
| original file | ``sam2.1_hiera_tiny.pt``, ``MedSAM2_latest.pt``, or their tensors as ``.safetensors`` |

Checkpoints are read as tensors only (``weights_only=True``): code inside a pickle never runs.
"""

import copy
import hashlib
import logging
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import Sam2VideoConfig, Sam2VideoModel
from transformers.utils import logging as transformers_logging

from unprompted.backbones.hub import (
    Checked,
    KnownWeights,
    check_sha256,
    get,
    installed,
    known,
    native_input_size,
    verify,
)
from unprompted.backbones.original_format import config_from_original, state_dict_from_original
from unprompted.errors import UnpromptedError, UsageError, WeightsUnavailable, out_of_memory

__all__ = [
    "Checked",
    "KnownWeights",
    "check_sha256",
    "get",
    "installed",
    "known",
    "load_model",
    "parameters_digest",
    "read_checkpoint",
    "resized_config",
    "verify",
]

MIN_INPUT_SIZE, MAX_INPUT_SIZE = 128, 1024  # pixels
INPUT_SIZE_STEP = 32  # the windowed position code tiles the stride-4 grid by 8
_FEATURE_STRIDES = (4, 8, 16)
_TRANSFORMERS_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_CHECKPOINT_SUFFIXES = (".pt", ".pth", ".safetensors")


def load_model(
    source: str,
    input_size: int | None = None,
    offline: bool = False,
    config: Sam2VideoConfig | None = None,
) -> Sam2VideoModel:
    """A SAM2 video model with its weights: in eval mode, float32, on the CPU.

    Args:
        source: a hub id, a folder in transformers' format, or a checkpoint file in original format.
        input_size: side of the square input in pixels; None keeps the one the weights were made for,
            which an original-format file does not tell: 1024 is taken (MedSAM2 was trained at 512).
        offline: never ask the network, use what is already on this machine.
        config: the architecture of an original-format file that is none of the released ones.

    Raises:
        WeightsUnavailable: the weights are missing, unreachable, damaged, or not a SAM2 video model.
        OutOfMemory: there is too little memory for them.
        UsageError: the input size cannot be used.
    """
    path = _local_path(source)
    if path is None:
        path = get(source, offline=offline)
        input_size = input_size or native_input_size(source)
    if path.name in _TRANSFORMERS_WEIGHTS and (path.parent / "config.json").is_file():
        path = path.parent
    if path.is_dir() and not _is_transformers_folder(path):
        path = _only_checkpoint(path)
    return _from_folder(path, input_size) if path.is_dir() else _from_file(path, input_size, config)


def resized_config(config: Sam2VideoConfig, input_size: int) -> Sam2VideoConfig:
    """A copy of a configuration for another input size; the same parameters fit both.

    Raises:
        UsageError: the size is not a multiple of 32 in 128..1024.
    """
    if input_size % INPUT_SIZE_STEP or not MIN_INPUT_SIZE <= input_size <= MAX_INPUT_SIZE:
        raise UsageError(
            f"input size is {input_size}, but a multiple of {INPUT_SIZE_STEP} from {MIN_INPUT_SIZE} to "
            f"{MAX_INPUT_SIZE} is needed, for example 128, 256, 512 or 1024"
        )
    resized: Any = copy.deepcopy(config)  # its nested parts are typed as plain mappings too
    resized.image_size = input_size
    resized.prompt_encoder_config.image_size = input_size
    resized.vision_config.backbone_config.image_size = [input_size, input_size]
    resized.vision_config.backbone_feature_sizes = [[input_size // s] * 2 for s in _FEATURE_STRIDES]
    resized.memory_attention_rope_feat_sizes = [input_size // _FEATURE_STRIDES[-1]] * 2
    checked: Sam2VideoConfig = resized
    return checked


def parameters_digest(model: nn.Module) -> str:
    """SHA-256 over names, shapes and bytes of parameters and persistent buffers, in name order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(memoryview(flat.view(torch.uint8).numpy()))
    return digest.hexdigest()


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.pt``, ``.pth`` or ``.safetensors`` file, by name, on the CPU.

    Raises:
        WeightsUnavailable: the file is damaged, or holds more than tensors.
        OutOfMemory: there is too little memory for them.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        _refuse_wrong_checksums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsUnavailable(
            f"{path} holds something else than tensors, which could run code when read, or it is damaged; "
            "download it again, or save its state dict alone as safetensors where you trust it"
        ) from error
    except Exception as error:  # damaged files make the libraries raise anything
        raise out_of_memory(error) or WeightsUnavailable(
            f"{path} cannot be read ({_short(error)}); download it again"
        ) from error
    state = content.get("model", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsUnavailable(f'{path} is not a checkpoint; {{"model": {{name: tensor}}}} is wanted')
    return dict(state)


def _refuse_wrong_checksums(path: Path) -> None:
    """Refuse a damaged archive: `torch.load` does not look at the checksums `torch.save` writes.

    `torch.save` does not compress either: an archive that holds more than its own size is a bomb.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                raise zipfile.BadZipFile("it holds more bytes than it is long")
            if (damaged := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")


def _local_path(source: str) -> Path | None:
    """The file or folder a source names, or None when it is a hub id."""
    path = Path(source).expanduser()
    if path.exists():
        return path
    looks_local = path.suffix in _CHECKPOINT_SUFFIXES or path.is_absolute() or source.startswith((".", "~"))
    if looks_local or source.partition("@")[0].count("/") != 1:
        raise WeightsUnavailable(
            f"{source} does not exist; give a hub id such as facebook/sam2.1-hiera-tiny, a folder with "
            "config.json and model.safetensors, or an original-format .pt file"
        )
    return None


def _is_transformers_folder(folder: Path) -> bool:
    has_weights = any((folder / name).is_file() for name in _TRANSFORMERS_WEIGHTS)
    return has_weights and (folder / "config.json").is_file()


def _only_checkpoint(folder: Path) -> Path:
    """The one original-format file of a folder; safetensors win over pickles."""
    for suffixes in ((".safetensors",), (".pt", ".pth")):
        found = sorted(file for file in folder.iterdir() if file.suffix in suffixes)
        if len(found) == 1:
            return found[0]
        if found:
            raise WeightsUnavailable(
                f"{folder} is no transformers folder (config.json and model.safetensors) and has several "
                f"checkpoints ({', '.join(f.name for f in found)}); "
                "give the path of one of them"
            )
    raise WeightsUnavailable(
        f"{folder} has neither config.json with model.safetensors nor an original-format .pt file"
    )


def _from_folder(folder: Path, input_size: int | None) -> Sam2VideoModel:
    try:
        fields, _ = Sam2VideoConfig.get_config_dict(folder, local_files_only=True)
        if fields.get("model_type") != Sam2VideoConfig.model_type:
            raise WeightsUnavailable(
                f"{folder} holds a model of type {fields.get('model_type')!r}, but 'sam2_video' is wanted"
            )
        config = Sam2VideoConfig.from_dict(fields)
        return _filled(str(folder), folder, config, input_size, None)
    except UnpromptedError:
        raise
    except Exception as error:  # so do configurations that were spoiled
        raise out_of_memory(error) or WeightsUnavailable(
            f"{folder} cannot be loaded ({_short(error)}); copy config.json and model.safetensors again"
        ) from error


def _from_file(path: Path, input_size: int | None, config: Sam2VideoConfig | None) -> Sam2VideoModel:
    original = read_checkpoint(path)
    try:
        state = state_dict_from_original(original, str(path))
        return _filled(
            str(path), None, config or config_from_original(original, str(path)), input_size, state
        )
    except UnpromptedError:
        raise
    except Exception as error:
        raise out_of_memory(error) or WeightsUnavailable(
            f"{path} is no SAM2 checkpoint in original format ({_short(error)}); "
            "give a SAM 2.0, SAM 2.1 or MedSAM2 file"
        ) from error


def _filled(
    source: str,
    folder: Path | None,
    config: Sam2VideoConfig,
    input_size: int | None,
    state: dict[str, Tensor] | None,
) -> Sam2VideoModel:
    """A model with every weight in place, from a folder or from a state dict.

    Raises:
        WeightsUnavailable: a name is missing, left over, or of another shape.
    """
    if input_size is not None:
        config = resized_config(config, input_size)
    with _silent_transformers():
        loaded: Any = Sam2VideoModel.from_pretrained(
            folder,
            config=config,
            state_dict=state,
            dtype=torch.float32,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # they are refused below, with our message
            output_loading_info=True,
        )
    model: Sam2VideoModel = loaded[0]  # in eval mode
    _refuse_differences(source, loaded[1])
    return model


def _refuse_differences(source: str, found: Mapping[str, Any]) -> None:
    complaints = []
    for kind, word in (("missing_keys", "missing"), ("unexpected_keys", "unexpected")):
        if names := sorted(found[kind]):
            complaints.append(f"{len(names)} {word} ({_first(names)})")
    if wrong := sorted(str(entry[0]) for entry in found["mismatched_keys"]):
        complaints.append(f"{len(wrong)} of another shape ({_first(wrong)})")
    complaints += [str(message) for message in found["error_msgs"]]
    if complaints:
        raise WeightsUnavailable(
            f"{source} does not fit the SAM2 architecture it claims: weights {'; '.join(complaints)}; "
            "download it again or give the checkpoint that belongs to this configuration"
        )


@contextmanager
def _silent_transformers() -> Iterator[None]:
    """No progress bars or load reports of transformers: what matters is raised."""
    report: Any = transformers_logging
    level, bars = report.get_verbosity(), report.is_progress_bar_enabled()
    report.set_verbosity(logging.CRITICAL)
    report.disable_progress_bar()
    try:
        yield
    finally:
        report.set_verbosity(level)
        if bars:
            report.enable_progress_bar()


def _first(names: list[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")


def _short(error: BaseException) -> str:
    return (
        f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no detail'}"
    )
