"""The five verbs over transformers' `Sam2VideoModel`: any SAM2 checkpoint, or the built-in one."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unprompted.backbones.attention import attended, one_headed, pooled, rearranges
from unprompted.backbones.base import Decoded, Features, MemoryEntry, Prompt, Recall
from unprompted.backbones.encoder import encoded
from unprompted.backbones.lora import adapted_layers
from unprompted.backbones.prior import PRIOR, prior_attention_of, resized_prior, weighted_updates
from unprompted.backbones.weights import load_model, parameters_digest, resized_config
from unprompted.errors import UsageError

ABSENT_LOGIT = -1024.0  # mask logit of an object whose presence is denied, as in SAM2
_GIVEN_SCALE, _GIVEN_BIAS = 20.0, -10.0  # logits that stand for a given mask, as in SAM2
_CHANNEL_MEAN = (0.485, 0.456, 0.406)
_CHANNEL_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Every mask the decoder offers for an object, before one is chosen.

    Attributes:
        logits: ``(K, N, S/4, S/4)``.
        quality: predicted IoU in 0..1, ``(K, N)``.
        tokens: output token of each mask, ``(K, N, C)``.
        presence: ``(K, 1)`` logit.
    """

    logits: Tensor
    quality: Tensor
    tokens: Tensor
    presence: Tensor


class Sam2Backbone:
    """A `Sam2VideoModel` behind the verbs of `unprompted.backbones.base.Backbone`.

    Args:
        model: the model, already at its input size.
        name: what it was loaded by.
        memory_pool: side of the squares of places whose memory is averaged before it is attended to; 1 for
            none.

    Raises:
        UsageError: memory cannot be averaged so.
    """

    def __init__(self, model: Any, name: str, memory_pool: int = 1) -> None:
        self.model = model
        self.name = name
        self.memory_pool = memory_pool
        if memory_pool < 1 or self._grid_side % memory_pool:
            raise UsageError(
                f"memory pool is {memory_pool}, but the {self._grid_side} places a side of {self.input_size} "
                "pixels have to be a multiple of it; give 1, 2 or 4"
            )
        if memory_pool > 1 and not one_headed(model.memory_attention):
            raise UsageError(f"memory attention of {name} has several heads; leave the memory pool out")

    def holding(self, model: Any) -> "Sam2Backbone":
        """Another model behind the same name and choices."""
        return Sam2Backbone(model, self.name, self.memory_pool)

    @property
    def input_size(self) -> int:
        """Side of the square input in pixels."""
        return int(self.model.image_size)

    @property
    def channels(self) -> int:
        """Channels of the coarsest features and of pointers."""
        return int(self.model.hidden_dim)

    @property
    def memory_width(self) -> int:
        """Width of a memory token."""
        return int(self.model.mem_dim)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(iter(self.model.parameters())).device

    @property
    def _dtype(self) -> torch.dtype:
        """What encoder, memory attention and memory encoder compute in; all else is float32."""
        return next(iter(self.model.memory_attention.parameters())).dtype

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the parameters."""
        return parameters_digest(self.model)

    @property
    def _grid_side(self) -> int:
        return int(self.model.backbone_feature_sizes[-1][0])

    def sharing_weights_at(self, input_size: int) -> "Sam2Backbone":
        """The same parameters, shared, behind another input size."""
        config = resized_config(self.model.config, input_size)
        with torch.random.fork_rng(devices=[]):  # weights are drawn here, only to be replaced
            model = type(self.model)(config).to(self.device)
        frozen = {name for name, p in self.model.named_parameters() if not p.requires_grad}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in frozen)  # assigning hands this on to what is shared
        for name, layer in adapted_layers(self.model).items():
            model.set_submodule(name, layer)
        if prior_attention_of(self.model) is not None:
            setattr(model.mask_decoder, PRIOR, prior_attention_of(self.model))
        model.load_state_dict(self.model.state_dict(keep_vars=True), assign=True)
        return self.holding(model.train(self.model.training))

    def encode(self, frames: Tensor) -> list[Features]:
        """Features of frames ``(T, 3, S, S)`` with values in 0..1, one record each."""
        mean = frames.new_tensor(_CHANNEL_MEAN).view(1, 3, 1, 1)
        std = frames.new_tensor(_CHANNEL_STD).view(1, 3, 1, 1)
        pixels = ((frames - mean) / std).to(self._dtype)
        found: list[Features] = []
        for levels in encoded(self.model, pixels):
            fine, middle, coarse = (level.float() for level in levels)
            for t in range(len(coarse)):
                row = slice(t, t + 1)
                shown = frames[len(found) : len(found) + 1]
                found.append(Features((fine[row], middle[row], coarse[row]), self._place, shown))
        return found

    def attend(self, features: Features, recall: Recall, objects: int) -> Tensor:
        """Condition one frame on memory, for K objects at once: ``(K, C, g, g)``."""
        coarse = features.levels[2].expand(objects, -1, -1, -1)
        if not recall.tokens:
            return coarse + self.model.no_memory_embedding.view(1, -1, 1, 1)
        memory, codes = zip(*self._memory_of(recall), strict=True)
        pointers, pointer_codes = self._pointers_of(recall)
        tokens = torch.cat([*memory, pointers]).to(self._dtype)
        whole = torch.cat([*codes, pointer_codes]).to(self._dtype)
        current, place = (
            level.flatten(2).permute(2, 0, 1).to(self._dtype) for level in (coarse, features.position)
        )
        if self.memory_pool > 1 or rearranges(self.model.memory_attention, coarse.device):
            fused = attended(
                self.model.memory_attention,
                current[:, 0],
                place[:, 0],
                tokens.transpose(0, 1),
                whole[:, 0],
                pointers.shape[0],
                self.memory_pool,
                recall.places,
                sum(slot == 0 for slot, _ in recall.tokens),
            )
        else:
            fused = self.model.memory_attention(
                current_vision_features=current,
                current_vision_position_embeddings=place,
                memory=tokens,
                memory_posision_embeddings=whole,
                num_object_pointer_tokens=pointers.shape[0],
            ).squeeze(0)
        return fused.float().transpose(1, 2).unflatten(2, (self._grid_side, self._grid_side))

    def _memory_of(self, recall: Recall) -> Iterator[tuple[Tensor, Tensor]]:
        """Tokens ``(n, K, M)`` and their position codes ``(n, 1, M)``, entry by entry; n is HW or less."""
        for slot, tokens in recall.tokens:
            temporal = self.model.memory_temporal_positional_encoding[slot - 1]  # slot 0 is the last code
            yield pooled(tokens, self.memory_pool), pooled(self._memory_position, self.memory_pool) + temporal

    @cached_property
    def _memory_position(self) -> Tensor:
        code = self._sines(self.model.memory_encoder.position_encoding, self.memory_width)
        return code.flatten(2).permute(2, 0, 1)

    @cached_property
    def _place(self) -> Tensor:
        return self._sines(self.model.vision_encoder.neck.position_encoding, self.channels)

    def _sines(self, position_encoding: Any, width: int) -> Tensor:
        """Position code of the coarsest level, ``(1, width, g, g)``."""
        shape = torch.Size((1, width, self._grid_side, self._grid_side))
        code: Tensor = position_encoding(shape, self.device, torch.float32)
        return code

    def _pointers_of(self, recall: Recall) -> tuple[Tensor, Tensor]:
        """Pointers cut into memory-wide tokens ``(P, K, M)``, and their temporal codes ``(P, 1, M)``.

        The distance in steps is scaled by the fixed number of pointers SAM2 looks back on, as in its
        streaming mode, so that a frame never depends on how many frames follow.
        """
        pointers = torch.stack([p for _, p in recall.pointers])  # (n, K, C)
        splits = self.channels // self.memory_width
        back = torch.tensor([float(b) for b, _ in recall.pointers], device=pointers.device)
        if self.model.config.enable_temporal_pos_encoding_for_object_pointers:
            scaled = back / (self.model.config.max_object_pointers_in_encoder - 1)
            codes = self.model.temporal_positional_encoding_projection_layer(
                _sine_code(scaled, self.channels)
            )
        else:
            codes = pointers.new_zeros(len(recall.pointers), self.memory_width)
        tokens = pointers.unflatten(2, (splits, self.memory_width)).transpose(1, 2).flatten(0, 1)
        return tokens, codes.unsqueeze(1).repeat_interleave(splits, dim=0)

    def decode(self, fused: Tensor, features: Features, prompt: Prompt | None = None) -> Decoded:
        """Masks from conditioned features ``(K, C, g, g)``; the best candidate by predicted IoU."""
        config = self.model.config
        boxed = prompt is not None and prompt.boxes is not None
        several = config.multimask_output_in_sam and config.multimask_output_for_tracking and not boxed
        candidates = self.candidates(fused, features, prompt, several=several)
        return self.choose(candidates, candidates.quality.argmax(dim=1))

    def candidates(
        self, fused: Tensor, features: Features, prompt: Prompt | None = None, *, several: bool = True
    ) -> Candidates:
        """Every mask the decoder offers: three if `several`, else the single-mask token's."""
        prompt = prompt or Prompt()
        sparse, dense = self._embed(prompt, fused.shape[0])
        fused, bias, weighted = self._heeded(fused, prompt.prior)
        with weighted:
            logits, quality, tokens, presence = self.model.mask_decoder(
                image_embeddings=fused,
                image_positional_embeddings=self.model.get_image_wide_positional_embeddings(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=several,
                high_resolution_features=list(features.levels[:2]),
                attention_similarity=bias,
            )
        return Candidates(logits[:, 0], quality[:, 0], tokens[:, 0], presence[:, 0])

    def _heeded(
        self, fused: Tensor, prior: Tensor | None
    ) -> tuple[Tensor, Tensor | None, AbstractContextManager[None]]:
        """What a prior does to features, to attention scores on the image, and to what the image takes."""
        heeding = prior_attention_of(self.model)
        if heeding is None or prior is None:
            return fused, None, nullcontext()
        coarse = resized_prior(prior.float(), self._grid_side)
        weighted = weighted_updates(self.model.mask_decoder, heeding.update_weight(coarse))
        return heeding.raised(fused, coarse), heeding.attention_bias(coarse), weighted

    def _embed(self, prompt: Prompt, objects: int) -> tuple[Tensor, Tensor]:
        """Sparse and dense prompt embeddings; without box or point SAM2 expects one padding point."""
        points = labels = boxes = None
        if prompt.boxes is None:
            points = torch.zeros(objects, 1, 1, 2, device=self.device)
            labels = -torch.ones(objects, 1, 1, dtype=torch.int32, device=self.device)
        else:
            boxes = prompt.boxes.float()[:, None]
        sparse, dense = self.model.prompt_encoder(
            input_points=points, input_labels=labels, input_boxes=boxes, input_masks=prompt.mask_logits
        )
        return sparse, dense

    def choose(self, candidates: Candidates, index: Tensor) -> Decoded:
        """Take one candidate an object, given as ``(K,)`` indices."""
        rows = torch.arange(index.shape[0], device=index.device)
        present = candidates.presence > 0
        raw = candidates.logits[rows, index].unsqueeze(1)
        logits = torch.where(present[:, :, None, None], raw, ABSENT_LOGIT)
        full = F.interpolate(logits, (self.input_size,) * 2, mode="bilinear", align_corners=False)
        pointer = self._pointer(candidates.tokens[rows, index], present)
        return Decoded(logits, raw, full, candidates.quality[rows, index], candidates.presence, pointer)

    def _pointer(self, tokens: Tensor, present: Tensor) -> Tensor:
        """Object pointers ``(K, C)`` from output tokens; one shared pointer stands for "absent"."""
        return torch.where(present, self.model.object_pointer_proj(tokens), self.model.no_object_pointer)

    def adopt(self, features: Features, masks: Tensor) -> Decoded:
        """Given masks ``(K, S, S)`` in {0, 1}, as if they had been decoded."""
        masks = masks.float().unsqueeze(1)
        full = masks * _GIVEN_SCALE + _GIVEN_BIAS
        low = F.interpolate(full, self.model.prompt_encoder.mask_input_size, mode="bilinear", antialias=True)
        prompt = Prompt(mask_logits=self.model.mask_downsample(masks))
        coarse = features.levels[2].expand(masks.shape[0], -1, -1, -1)
        offered = self.candidates(coarse, features, prompt)
        chosen = self.choose(offered, offered.quality.argmax(dim=1))
        shown = masks.flatten(1).any(dim=1, keepdim=True)
        pointer = torch.where(shown, chosen.pointer, self.model.no_object_pointer)
        presence = shown.float() * _GIVEN_SCALE + _GIVEN_BIAS
        return Decoded(low, low, full, masks.new_ones(masks.shape[0]), presence, pointer, given=True)

    def remember(self, features: Features, decoded: Decoded) -> MemoryEntry:
        """The memory entry of a frame and its masks; tokens are rounded to bfloat16, as in SAM2.

        All that are absent have the same mask, so the entry of one of them is that of all.
        """
        absent = decoded.presence[:, 0] <= 0
        if int(absent.sum()) > 1:
            rows = torch.cat([(~absent).nonzero()[:, 0], absent.nonzero()[:1, 0]])
            row_of = torch.where(absent, len(rows) - 1, (~absent).cumsum(dim=0) - 1)
            tokens = self._tokens(features, decoded.logits_full[rows], decoded.presence[rows], decoded.given)
            return MemoryEntry(tokens[:, row_of], decoded.pointer)
        tokens = self._tokens(features, decoded.logits_full, decoded.presence, decoded.given)
        return MemoryEntry(tokens, decoded.pointer)

    def _tokens(self, features: Features, logits: Tensor, presence: Tensor, given: bool) -> Tensor:
        """Memory tokens ``(HW, K, M)`` of masks ``(K, 1, S, S)``."""
        config = self.model.config
        soft = (logits > 0).float() if given else logits.sigmoid()
        masks = soft * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc
        coarse = features.levels[2].to(self._dtype)
        tokens = self.model.memory_encoder(coarse, masks.to(self._dtype))[0].float()
        absent = self.model.occlusion_spatial_embedding_parameter
        if absent is not None:
            denied = (presence <= 0).float()
            tokens = tokens + (denied * absent)[:, :, None, None]
        return tokens.to(torch.bfloat16).float().flatten(2).permute(2, 0, 1)


def _sine_code(steps: Tensor, width: int, temperature: float = 10000.0) -> Tensor:
    """Sine code ``(n, width)`` of positions ``(n,)`` (Attention Is All You Need, section 3.5)."""
    half = torch.arange(width // 2, dtype=torch.float32, device=steps.device)
    angles = steps.unsqueeze(-1) / temperature ** (2 * (half // 2) / (width // 2))
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def load_sam2(
    source: str,
    input_size: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    memory_pool: int = 1,
) -> Sam2Backbone:
    """A SAM2 backbone from a hub id, a local folder or an original-format checkpoint.

    Args:
        source: ``facebook/sam2.1-hiera-tiny``, a folder, or a ``.pt`` file.
        input_size: side of the square input in pixels, 128 to 1024; None keeps the model's own.
        device: "cpu", "cuda", "cuda:1", "mps".
        dtype: "float32" or "bfloat16", of encoder, memory attention and memory encoder.
        memory_pool: side of the squares of places whose memory is averaged; 1 for none.

    Raises:
        WeightsUnavailable: the weights cannot be found, fetched or trusted.
        UsageError: memory cannot be averaged so.
    """
    model: Any = load_model(source, input_size)
    return Sam2Backbone(computing_in(getattr(torch, dtype), model.to(device).eval()), source, memory_pool)


def computing_in(dtype: torch.dtype, model: Any) -> Any:
    """A `Sam2VideoModel` whose large parts hold their weights in another number format, in place.

    Prompts and masks stay in float32: they cost little, and borders of masks move with their rounding. So
    do position codes, which are no weights.
    """
    decoder = model.mask_decoder
    large = (model.vision_encoder, model.memory_attention, model.memory_encoder)
    for part in (*large, decoder.conv_s0, decoder.conv_s1):
        for parameter in part.parameters():
            parameter.data = parameter.data.to(dtype)
    return model
