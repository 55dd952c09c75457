"""Few-shot, prompt-free segmentation of medical images, volumes and videos on SAM2.

Importing the package imports neither torch nor any file library; names load what they need on use.
"""

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unprompted.adaptation.settings import Adaptation as Adaptation
    from unprompted.engine.views import Views as Views
    from unprompted.errors import UnpromptedError as UnpromptedError
    from unprompted.geometry import Grid as Grid
    from unprompted.images import LabelMap as LabelMap
    from unprompted.images import Volume as Volume
    from unprompted.io.base import read_image as read_image
    from unprompted.io.base import read_labels as read_labels
    from unprompted.io.base import write_labels as write_labels
    from unprompted.loading import load_backbone as load_backbone
    from unprompted.prediction import Prediction as Prediction
    from unprompted.segmenter import FittedSegmenter as FittedSegmenter
    from unprompted.segmenter import Segmenter as Segmenter
    from unprompted.support import Example as Example
    from unprompted.support import SupportSet as SupportSet

__version__ = metadata.version("unprompted")

_HOMES = {
    "Adaptation": "adaptation.settings",
    "Example": "support",
    "FittedSegmenter": "segmenter",
    "Grid": "geometry",
    "LabelMap": "images",
    "Prediction": "prediction",
    "Segmenter": "segmenter",
    "SupportSet": "support",
    "UnpromptedError": "errors",
    "Views": "engine.views",
    "Volume": "images",
    "load_backbone": "loading",
    "read_image": "io.base",
    "read_labels": "io.base",
    "write_labels": "io.base",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'unprompted' has no attribute {name!r}")
    return getattr(import_module(f"unprompted.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
