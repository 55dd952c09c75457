"""A 3D U-Net trained from scratch on patches of the support volumes."""

from dataclasses import dataclass

from monai.networks.nets import UNet
from torch import nn

from unprompted.peers.patches import PatchTraining


@dataclass(frozen=True)
class UNet3D(PatchTraining):
    """MONAI's residual U-Net in 3D."""

    def network(self, channels: int, outputs: int) -> nn.Module:
        """Four levels, two residual units each."""
        return UNet(
            spatial_dims=3,
            in_channels=channels,
            out_channels=outputs,
            channels=(16, 32, 64, 128),
            strides=(2, 2, 2),
            num_res_units=2,
            norm="instance",
        )
