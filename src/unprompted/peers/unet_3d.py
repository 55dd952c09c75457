"""A 3D U-Net trained from scratch on patches of the support volumes."""

from dataclasses import dataclass

from monai.networks.nets import UNet
from torch import nn

from unprompted.peers.base import Cases, Progress, TrainedPeer
from unprompted.peers.patches import PatchTraining, train_on_patches
from unprompted.peers.training import Budget


@dataclass(frozen=True)
class UNet3D:
    """MONAI's residual U-Net in 3D.

    Attributes:
        minutes: longest training.
        steps: longest training.
        longest: voxels of the longest side of a case at the size the network works at.
        patch: largest patch side in voxels, a multiple of 32.
        batch: patches a step.
        learning_rate: the highest, of AdamW.
        device: "auto", "cpu" or "cuda".
    """

    minutes: float = 5.0
    steps: int = 3000
    longest: int = 160
    patch: int = 96
    batch: int = 2
    learning_rate: float = 1e-3
    device: str = "auto"

    def fit(self, cases: Cases, classes: dict[int, str], seed: int, progress: Progress) -> TrainedPeer:
        """Train on the support volumes."""
        budget = Budget(self.minutes, self.steps)
        how = PatchTraining(budget, self.longest, self.patch, self.batch, self.learning_rate, self.device)
        return train_on_patches(_network, how, cases, classes, seed, progress)


def _network(channels: int, outputs: int) -> nn.Module:
    return UNet(
        spatial_dims=3,
        in_channels=channels,
        out_channels=outputs,
        channels=(16, 32, 64, 128),
        strides=(2, 2, 2),
        num_res_units=2,
        norm="instance",
    )
