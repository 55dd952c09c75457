"""SwinUNETR trained from scratch on patches of the support volumes."""

from dataclasses import dataclass

from monai.networks.nets import SwinUNETR
from torch import nn

from unprompted.peers.base import Cases, Progress, TrainedPeer
from unprompted.peers.patches import PatchTraining, train_on_patches
from unprompted.peers.training import Budget

_SMALLEST = 64  # pixels: five halvings of 32 leave one, which has no variance to normalise by


@dataclass(frozen=True)
class SwinUnetr:
    """MONAI's SwinUNETR (arXiv:2201.01266), narrow so that it trains on a CPU.

    Attributes:
        minutes: longest training.
        steps: longest training.
        longest: voxels of the longest side of a case at the size the network works at.
        patch: largest patch side in voxels, a multiple of 32.
        batch: patches a step.
        features: channels of its first level, a multiple of 12; the paper has 48.
        learning_rate: the highest, of AdamW.
        device: "auto", "cpu" or "cuda".
    """

    minutes: float = 5.0
    steps: int = 3000
    longest: int = 160
    patch: int = 64
    batch: int = 1
    features: int = 12
    learning_rate: float = 5e-4
    device: str = "auto"

    def fit(self, cases: Cases, classes: dict[int, str], seed: int, progress: Progress) -> TrainedPeer:
        """Train on the support volumes."""
        budget = Budget(self.minutes, self.steps)
        rate, size = self.learning_rate, _SMALLEST
        how = PatchTraining(budget, self.longest, self.patch, self.batch, rate, self.device, size)
        return train_on_patches(self._network, how, cases, classes, seed, progress)

    def _network(self, channels: int, outputs: int) -> nn.Module:
        return SwinUNETR(
            in_channels=channels, out_channels=outputs, feature_size=self.features, spatial_dims=3
        )
