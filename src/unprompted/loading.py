"""Methods and backbones by the names people give them."""

from dataclasses import fields
from typing import Any

import torch

from unprompted.backbones.base import Backbone
from unprompted.errors import UsageError
from unprompted.launched import own_gpu
from unprompted.methods.base import Method
from unprompted.registry import BACKBONES, DEFAULT_BACKBONE, METHODS


def load_backbone(
    source: str = DEFAULT_BACKBONE,
    *,
    input_size: int | None = None,
    device: str = "auto",
    dtype: str = "float32",
    memory_pool: int = 1,
) -> Backbone:
    """A backbone by registry name, hub id, local folder or checkpoint file.

    Args:
        source: "builtin", "facebook/sam2.1-hiera-tiny", a folder or a ``.pt`` file.
        input_size: side of the square input in pixels; None keeps the model's own.
        device: "auto" (CUDA where there is one, else the CPU), "cpu", "cuda", "cuda:1", "gpu", "mps".
        dtype: "float32", or "bfloat16" for encoder, memory attention and memory encoder.
        memory_pool: side of the squares of places whose memory is averaged before frames attend to it: 1
            for none, 2 and 4 are faster and less exact.

    Raises:
        WeightsUnavailable: the weights are missing or not what they should be.
        UsageError: the device or number format does not exist, or memory cannot be averaged so.
    """
    if dtype not in ("float32", "bfloat16"):
        raise UsageError(f"dtype is {dtype!r}; use float32 or bfloat16")
    load = BACKBONES.load(source if source in BACKBONES else "checkpoint")
    where = resolve_device(device)
    backbone: Backbone = load(
        source, input_size=input_size, device=where, dtype=dtype, memory_pool=memory_pool
    )
    return backbone


def resolve_device(device: str) -> str:
    """The torch name of a device word; "gpu" and "cuda" mean the same.

    "auto" is the GPU of this process, where several were started together.

    Raises:
        UsageError: there is no such device here.
    """
    name = device.replace("gpu", "cuda")
    if name == "auto":
        return own_gpu() if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device {device!r} cannot be used ({reason}); try --device cpu") from error
    return name


def make_method(name: str, settings: dict[str, Any] | None = None) -> Method:
    """A method by registry name, with some of its settings overridden.

    Args:
        name: such as "ofl-sam2".
        settings: field name to value; text is converted to the field's type.

    Raises:
        UsageError: no such method, no such setting, or a value it cannot take.
    """
    from pydantic import TypeAdapter, ValidationError

    kind = METHODS.load(name)
    known = [f.name for f in fields(kind)]
    unknown = sorted(set(settings or {}) - set(known))
    if unknown:
        raise UsageError(f"{name} has no setting {', '.join(unknown)}; it has {', '.join(known)}")
    try:
        method: Method = TypeAdapter(kind).validate_python(settings or {})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UsageError(f"{name}: {wrong}") from error
    return method


def method_name(method: Method) -> str:
    """The registry name of a method, or its class name where it is not registered."""
    path = f"{type(method).__module__}:{type(method).__qualname__}"
    return next((name for name, entry in METHODS.items() if entry == path), type(method).__qualname__)


def settings_of(method: Method) -> dict[str, Any]:
    """The settings of a method as JSON types."""
    from pydantic import TypeAdapter

    settings: dict[str, Any] = TypeAdapter(type(method)).dump_python(method, mode="json")
    return settings
