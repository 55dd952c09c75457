"""The official fake of the backbone contract: five verbs of plain arithmetic, quick and deterministic."""

import hashlib

import torch
import torch.nn.functional as F

from unprompted.backbones.base import Decoded, Features, MemoryEntry

SIDE, GRID, CHANNELS, WIDTH = 64, 4, 16, 8
ABSENT = -1024.0


class FakeBackbone:
    """S=64, g=4, C=16, M=8: a memory token is 4 key channels and the mask in 2x2 parts of its patch.

    Attending averages the masks of all tokens, weighted by how alike patches look and how near they
    lie; so a frame equal to a remembered one gets that one's mask back. Pointers shift all of it a
    little. The last four channels of the conditioned features are the mask.
    """

    name, input_size, channels, memory_width = "fake", SIDE, CHANNELS, WIDTH
    device, memory_pool = torch.device("cpu"), 1

    def __init__(self, seed=0):
        source = torch.Generator().manual_seed(seed)
        self._patches = torch.randn(CHANNELS, 3 * 16, generator=source) / 12
        rows, columns = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
        self._places = torch.stack([rows, columns], dim=-1).flatten(0, 1).float() / GRID
        self.digest = hashlib.sha256(self._patches.numpy().tobytes()).hexdigest()

    def encode(self, frames):
        small = F.avg_pool2d(frames, 4)  # (T, 3, 16, 16)
        coarse = F.conv2d(small - 0.5, self._patches.view(CHANNELS, 3, 4, 4), stride=4)
        middle = F.avg_pool2d(small, 2).repeat(1, 2, 1, 1)[:, :4]
        position = self._places.T.view(1, 2, GRID, GRID).repeat(1, CHANNELS // 2, 1, 1)
        levels = [(small[t : t + 1, :2], middle[t : t + 1], coarse[t : t + 1]) for t in range(len(frames))]
        return [Features(level, position, frames[t : t + 1]) for t, level in enumerate(levels)]

    def attend(self, features, recall, objects):
        coarse = features.levels[2].expand(objects, -1, -1, -1)
        if not recall.tokens:
            return torch.cat([coarse[:, :12], torch.zeros_like(coarse[:, 12:])], dim=1)
        tokens = torch.cat([t for _, t in recall.tokens]).transpose(0, 1)  # (K, n HW, M)
        age = torch.cat([torch.full((GRID**2,), 0.05 * slot) for slot, _ in recall.tokens])
        query = coarse[:, :4].flatten(2).transpose(1, 2)  # (K, HW, 4)
        far = torch.cdist(self._places, self._places).repeat(1, len(recall.tokens))
        alike = -30 * torch.cdist(query, tokens[..., :4]) - 4 * far - age
        mask = alike.softmax(dim=-1) @ tokens[..., 4:]
        nearness = torch.tensor([1 / (1 + back) for back, _ in recall.pointers])
        pointers = torch.stack([p for _, p in recall.pointers])
        seen = (nearness[:, None, None] * pointers).sum(dim=0) / nearness.sum()
        mask = mask.transpose(1, 2).unflatten(2, (GRID, GRID)) + 0.1 * seen[:, 12:, None, None].tanh()
        return torch.cat([coarse[:, :12], mask], dim=1)

    def decode(self, fused, features, prompt=None):
        probability = F.pixel_shuffle(fused[:, 12:], 2)  # (K, 1, 8, 8)
        if prompt is not None and prompt.boxes is not None:
            probability = probability * _inside(prompt.boxes)
        if prompt is not None and prompt.mask_logits is not None:
            probability = (probability + F.avg_pool2d(prompt.mask_logits.sigmoid(), 2)) / 2
        raw = F.interpolate(12 * (probability - 0.5), scale_factor=2, mode="nearest")
        presence = 20 * (probability.flatten(1).amax(dim=1, keepdim=True) - 0.3)
        logits = torch.where(presence[:, :, None, None] > 0, raw, ABSENT)
        full = F.interpolate(logits, scale_factor=4, mode="bilinear")
        quality = (2 * probability - 1).abs().flatten(1).mean(dim=1).clamp(0, 1)
        return Decoded(logits, raw, full, quality, presence, self._pointer(fused, probability))

    def adopt(self, features, masks):
        masks = masks.float().unsqueeze(1)
        coarse = features.levels[2].expand(len(masks), -1, -1, -1)
        low, full = 20 * F.avg_pool2d(masks, 4) - 10, 20 * masks - 10
        presence = 20 * masks.flatten(1).amax(dim=1, keepdim=True) - 10
        pointer = self._pointer(coarse, F.avg_pool2d(masks, 8))
        return Decoded(low, low, full, torch.ones(len(masks)), presence, pointer, given=True)

    def remember(self, features, decoded):
        masks = (decoded.logits_full > 0).float() if decoded.given else decoded.logits_full.sigmoid()
        parts = F.pixel_unshuffle(F.avg_pool2d(masks, 8), 2)  # (K, 4, g, g)
        keys = features.levels[2][:, :4].expand(len(masks), -1, -1, -1)
        return MemoryEntry(torch.cat([keys, parts], dim=1).flatten(2).permute(2, 0, 1), decoded.pointer)

    def _pointer(self, fused, probability):
        weight = F.avg_pool2d(probability, 2)
        return (fused * weight).sum(dim=(2, 3)) / (weight.sum(dim=(2, 3)) + 1e-3)


def _inside(boxes):
    centres = torch.arange(8) * 8 + 4.0
    x0, y0, x1, y1 = boxes.T[:, :, None]
    columns, rows = (centres >= x0) & (centres <= x1), (centres >= y0) & (centres <= y1)
    return (rows[:, :, None] & columns[:, None, :]).float().unsqueeze(1)
