"""SwinUNETR trained from scratch on patches of the support volumes."""

from dataclasses import dataclass
from typing import ClassVar

from monai.networks.nets import SwinUNETR
from torch import nn

from unprompted.peers.patches import PatchTraining


@dataclass(frozen=True)
class SwinUnetr(PatchTraining):
    """MONAI's SwinUNETR (arXiv:2201.01266), narrow so that it trains on a CPU.

    Attributes:
        features: channels of its first level, a multiple of 12; the paper has 48.
    """

    patch: int = 64
    batch: int = 1
    learning_rate: float = 5e-4
    features: int = 12

    smallest: ClassVar[int] = 64  # five halvings of 32 leave one, which has no variance to normalise by

    def network(self, channels: int, outputs: int) -> nn.Module:
        """Five levels of windowed attention."""
        return SwinUNETR(
            in_channels=channels, out_channels=outputs, feature_size=self.features, spatial_dims=3
        )
