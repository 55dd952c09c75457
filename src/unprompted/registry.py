"""Names of everything that can be plugged in: one line each, nothing is imported until asked for.

A registry maps a name (the word used on the command line, in JSON and as file stem) to
``"module:attribute"``. Installed packages add their own through the entry-point groups
``unprompted.methods``, ``unprompted.backbones``, ``unprompted.datasets``, ``unprompted.peers`` and
``unprompted.readers``.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module, metadata
from typing import Any

from unprompted.errors import UsageError


class Registry(Mapping[str, str]):
    """Names and where their implementation lives.

    Args:
        kind: what is registered, singular, for messages and the entry-point group.
        entries: name to ``"module:attribute"``.
    """

    def __init__(self, kind: str, entries: dict[str, str]) -> None:
        self.kind = kind
        self._own = entries

    def _entries(self) -> dict[str, str]:
        group = metadata.entry_points(group=f"unprompted.{self.kind}s")
        return {point.name: point.value for point in group} | self._own

    def __getitem__(self, name: str) -> str:
        return self._entries()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries())

    def __len__(self) -> int:
        return len(self._entries())

    def load(self, name: str) -> Any:
        """Import and give back what is registered under a name.

        Raises:
            UsageError: nothing is registered under that name.
        """
        entries = self._entries()
        if name not in entries:
            raise UsageError(f"no {self.kind} is called {name!r}; known: {', '.join(sorted(entries))}")
        module, attribute = entries[name].split(":")
        return getattr(import_module(module), attribute)


METHODS = Registry(
    "method",
    {
        "ofl-sam2": "unprompted.methods.ofl_sam2:OflSam2",
        "sam2-mask": "unprompted.methods.sam2_mask:Sam2Mask",
        "aug-match": "unprompted.methods.aug_match:AugMatch",
        "fate-sam": "unprompted.methods.fate_sam:FateSam",
        "fs-medsam2": "unprompted.methods.fs_medsam2:FsMedSam2",
        "sam2-sgp": "unprompted.methods.sam2_sgp:Sam2Sgp",
    },
)
BACKBONES = Registry(
    "backbone",
    {
        "builtin": "unprompted.backbones.tiny:load_builtin",
        "checkpoint": "unprompted.backbones.sam2:load_sam2",
        "facebook/sam2.1-hiera-tiny": "unprompted.backbones.sam2:load_sam2",
        "facebook/sam2.1-hiera-small": "unprompted.backbones.sam2:load_sam2",
        "facebook/sam2.1-hiera-base-plus": "unprompted.backbones.sam2:load_sam2",
        "facebook/sam2.1-hiera-large": "unprompted.backbones.sam2:load_sam2",
    },
)
DATASETS = Registry(
    "dataset",
    {
        "synthetic": "unprompted.datasets.synthetic:Synthetic",
        "any-folder": "unprompted.datasets.any_folder:AnyFolder",
        "synapse": "unprompted.datasets.synapse:synapse",
        "synapse-transunet": "unprompted.datasets.synapse_transunet:synapse_transunet",
        "promise12": "unprompted.datasets.promise12:promise12",
        "autolaparo": "unprompted.datasets.autolaparo:autolaparo",
        "acdc": "unprompted.datasets.acdc:acdc",
        "amos22": "unprompted.datasets.amos22:amos22",
        "msd": "unprompted.datasets.msd:msd",
        "camus": "unprompted.datasets.camus:camus",
        "busi": "unprompted.datasets.busi:busi",
        "isic2018": "unprompted.datasets.isic2018:isic2018",
        "ph2": "unprompted.datasets.ph2:ph2",
        "montgomery": "unprompted.datasets.montgomery:montgomery",
        "chaos": "unprompted.datasets.chaos:chaos",
        "refuge": "unprompted.datasets.refuge:refuge",
        "jsrt": "unprompted.datasets.jsrt:jsrt",
    },
)
PEERS = Registry(
    "peer",
    {
        "registration": "unprompted.peers.registration:Registration",
        "unet-2d": "unprompted.peers.unet_2d:UNet2D",
        "unet-3d": "unprompted.peers.unet_3d:UNet3D",
        "swin-unetr": "unprompted.peers.swin_unetr:SwinUnetr",
        "nnunet": "unprompted.peers.nnunet:NnUNet",
    },
)
READERS = Registry(
    "reader",
    {
        "nifti": "unprompted.io.nifti:Nifti",
        "itk": "unprompted.io.itk:Itk",
        "raster": "unprompted.io.raster:Raster",
        "dicom": "unprompted.io.dicom:Dicom",  # before video: both take folders
        "video": "unprompted.io.video:Video",
        "npz": "unprompted.io.npz:Npz",
        "h5": "unprompted.io.h5:H5",
    },
)

DEFAULT_METHOD = "ofl-sam2"
DEFAULT_BACKBONE = "builtin"
AUTO_METHOD = (
    "auto"  # the best of these by what the labelled cases tell, see `unprompted.evaluation.estimate`
)
AUTO_CANDIDATES = (DEFAULT_METHOD, "fate-sam", "sam2-mask")
ROUND_TRIP_METHOD = "fate-sam"  # learns nothing offline, so that a prediction can be its support at once
