"""SAM2-SGP's second decoding, guided by the pseudo-mask of the first: for inference and in training."""

import math
import random
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from unprompted.adaptation.objective import Drawn, decayed
from unprompted.adaptation.settings import Adaptation
from unprompted.backbones.base import Backbone, Decoded, Features, Prompt
from unprompted.backbones.lora import ENCODER, add_adapters
from unprompted.backbones.prior import add_prior_attention, prior_attention_of
from unprompted.backbones.sam2 import Sam2Backbone
from unprompted.methods.pseudo_box import boxes_around
from unprompted.methods.similarity import Similarity
from unprompted.training.objective import candidate_loss

_FIRST_SHARE, _FIRST_DECAY = 0.5, 0.95  # l = 0.5 * 0.95^epoch weighs the loss of the pseudo-mask
_STRENGTH_FACTOR = 30.0  # on the learning rate of the strengths, which are few and start at zero

Box = Literal["largest", "all", "none"]


@dataclass(frozen=True)
class Guidance:
    """What the second decoding is told of the first.

    Attributes:
        box: what of the pseudo-mask is boxed.
        margin: of the box, relative to its size.
        pma: whether the decoder attends by the pseudo-mask.
    """

    box: Box
    margin: float
    pma: bool

    def __bool__(self) -> bool:
        return self.pma or self.box != "none"

    def prompt(self, first: Decoded) -> tuple[Tensor, Prompt]:
        """Which pseudo-masks are not empty, indices ``(k,)``, and the prompt they make."""
        masks = first.logits_full[:, 0] > 0
        if self.box == "none":
            rows, boxes = masks.flatten(1).any(dim=1).nonzero()[:, 0], None
        else:
            rows, boxes = boxes_around(masks, self.margin, self.box)
        return rows, Prompt(boxes=boxes, prior=first.raw[rows].sigmoid() if self.pma else None)

    def decode(self, backbone: Backbone, features: Features, fused: Tensor) -> Decoded:
        """Decode, then decode again what was found; an empty pseudo-mask stays as it is."""
        first = backbone.decode(fused, features)
        rows, prompt = self.prompt(first)
        if not self or not len(rows):
            return first
        second = backbone.decode(fused[rows], _of(features, rows), prompt)
        return _with_rows(first, rows, second)


@dataclass(frozen=True)
class PseudoMaskObjective:
    """How SAM2-SGP is trained.

    Attributes:
        guidance: of the second decoding.
        measure: how alike two frames are.
        rank: of the encoder's adapters, 0 for none.
        heads: whether all but the encoder's trunk is trained too.
        temperature: of drawing support, in standard deviations of the similarities.
        steps_per_epoch: steps after which the pseudo-mask counts less.
    """

    guidance: Guidance
    measure: Similarity
    rank: int
    heads: bool
    temperature: float
    steps_per_epoch: int

    def trained(self, model: Any, settings: Adaptation, seed: int) -> list[dict[str, Any]]:
        """Adapters of the encoder, everything behind its trunk, strengths of the pseudo-mask attention."""
        model.requires_grad_(False)
        if self.rank:
            add_adapters(model, self.rank, seed, ENCODER)
        if self.heads:
            for name, parameter in model.named_parameters():
                if not name.startswith("vision_encoder.backbone."):
                    parameter.requires_grad_(True)
        earlier = prior_attention_of(model)
        if earlier is not None:  # of a backbone that was trained before: it goes in a group of its own
            earlier.requires_grad_(False)
        groups = decayed(model)
        if self.guidance.pma:
            add_prior_attention(model)
            strengths = prior_attention_of(model)
            assert strengths is not None
            strengths.requires_grad_(True)
            groups.append(
                {"params": list(strengths.parameters()), "weight_decay": 0.0, "factor": _STRENGTH_FACTOR}
            )
        return [group for group in groups if group["params"]]

    def draw(self, pool: list[int], scores: dict[int, float], count: int, source: random.Random) -> list[int]:
        """Without replacement, with probabilities proportional to exp(similarity / temperature)."""
        values = torch.tensor([scores[frame] for frame in pool], dtype=torch.float64)
        spread = float(values.std()) if len(pool) > 1 else 0.0
        logits = (values / (spread * self.temperature) if spread else values * 0).tolist()
        # Keys log(p) + Gumbel noise in falling order are such a draw.
        keys = {f: logit + _gumbel(source) for f, logit in zip(pool, logits, strict=True)}
        return sorted(pool, key=lambda frame: -keys[frame])

    def loss(
        self, backbone: Sam2Backbone, features: Features, fused: Tensor, target: Tensor, at: Drawn
    ) -> Tensor:
        """``(1 - l) L(final) + l L(pseudo-mask)``; L is mask loss, predicted overlap and presence."""
        offered = backbone.candidates(fused, features)
        of_first = candidate_loss(offered, target)
        rows, prompt = self.guidance.prompt(backbone.choose(offered, offered.quality.argmax(dim=1)))
        if not self.guidance or not len(rows):
            return of_first
        again = backbone.candidates(fused[rows], _of(features, rows), prompt, several=prompt.boxes is None)
        final = candidate_loss(again, target[rows]) * (len(rows) / len(target))
        if len(rows) < len(target):
            rest = torch.ones(len(target), dtype=torch.bool, device=rows.device)
            rest[rows] = False
            kept = replace(offered, **{f.name: getattr(offered, f.name)[rest] for f in fields(offered)})
            final = final + candidate_loss(kept, target[rest]) * (1 - len(rows) / len(target))
        share = _FIRST_SHARE * _FIRST_DECAY ** (at.step // self.steps_per_epoch)
        return (1 - share) * final + share * of_first

    def decode(self, backbone: Sam2Backbone, features: Features, fused: Tensor) -> Decoded:
        """Both decodings."""
        return self.guidance.decode(backbone, features, fused)


def _gumbel(source: random.Random) -> float:
    return -math.log(max(source.expovariate(1.0), 1e-300))


def _of(features: Features, rows: Tensor) -> Features:
    """Features of some rows; those of a single frame serve all rows."""
    if features.levels[0].shape[0] == 1:
        return features
    fine, middle, coarse = (level[rows] for level in features.levels)
    return replace(features, levels=(fine, middle, coarse))


def _with_rows(first: Decoded, rows: Tensor, second: Decoded) -> Decoded:
    """A decoding with some of its objects replaced."""
    tensors = [f.name for f in fields(first) if f.name != "given"]
    merged = {name: getattr(first, name).clone() for name in tensors}
    for name in tensors:
        merged[name][rows] = getattr(second, name).to(merged[name].dtype)
    return replace(first, **merged)
