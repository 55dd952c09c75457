"""The image encoder of SAM2 without what nobody reads; equal results.

transformers' attention within windows multiplies the heads of every token with each other and drops the
product; position codes are drawn anew for every level and frame. Here only what is used is computed, and on
CPUs frame by frame: room for several at once is fetched from the system, and emptied by it, at every layer,
which took a third of the time.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.sam2.modeling_sam2 import do_pool, window_partition, window_unpartition


def encoded(model: Any, pixels: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Levels of frames at strides 4, 8 and 16, as the mask decoder takes them, some frames at a time.

    Args:
        model: a `Sam2VideoModel`.
        pixels: normalised frames, ``(T, 3, S, S)``.

    Yields:
        ``((t, C/8, S/4, S/4), (t, C/4, S/8, S/8), (t, C, g, g))``; the t sum to T.
    """
    hiera, decoder = model.vision_encoder.backbone, model.mask_decoder
    stride = hiera.config.patch_stride
    place = hiera._get_pos_embed(tuple(side // s for side, s in zip(pixels.shape[2:], stride, strict=True)))
    alone = pixels.device.type == "cpu" and not torch.is_grad_enabled()
    for some in pixels.split(1 if alone else len(pixels)):
        found, stages = hiera.patch_embed(some) + place, []
        for number, block in enumerate(hiera.blocks):
            found = _after(block, found)
            if number in hiera.stage_ends:
                stages.append(found)
        fine, middle, coarse, *_ = _pyramid(model.vision_encoder.neck, stages)
        yield decoder.conv_s0(fine), decoder.conv_s1(middle), coarse


def _after(block: Any, tokens: Tensor) -> Tensor:
    """Tokens ``(t, h, w, c)`` after a block; those between stages halve both sides."""
    seen, kept = block.layer_norm1(tokens), tokens
    if block.dim != block.dim_out:
        kept = do_pool(block.proj(seen), block.query_stride)
    window, padded = block.window_size, tuple(seen.shape[1:3])
    if window:
        seen, padded = window_partition(seen, window)
    seen = _attended(block.attn, seen)
    if window:
        if block.query_stride:
            window //= block.query_stride[0]
            padded = tuple(side + -side % window for side in kept.shape[1:3])
        seen = window_unpartition(seen, window, padded, tuple(kept.shape[1:3]))
    kept = kept + seen
    result: Tensor = kept + block.mlp(block.layer_norm2(kept))
    return result


def _attended(attention: Any, tokens: Tensor) -> Tensor:
    """Self-attention within each window ``(n, h, w, c)``; a query stride halves both sides."""
    count, height, width, _ = tokens.shape
    query, key, value = (
        attention.qkv(tokens).view(count, height * width, 3, attention.num_attention_heads, -1).unbind(dim=2)
    )
    if attention.query_stride:
        query = do_pool(query.reshape(count, height, width, -1), attention.query_stride)
        height, width = query.shape[1:3]
        query = query.reshape(count, height * width, attention.num_attention_heads, -1)
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    if query.dtype == torch.bfloat16 and query.device.type == "cpu":  # twice as fast as torch's own
        found = ((query * attention.scale) @ key.transpose(2, 3)).softmax(dim=-1) @ value
    else:
        found = F.scaled_dot_product_attention(query, key, value, scale=attention.scale)
    result: Tensor = attention.proj(found.transpose(1, 2).reshape(count, height, width, -1))
    return result


def _pyramid(neck: Any, stages: list[Tensor]) -> list[Tensor]:
    """Feature maps ``(t, C, h, w)`` of the stages ``(t, h, w, c)``, finest first."""
    last = len(stages) - 1
    maps: list[Tensor] = []
    for number in range(last, -1, -1):
        found = neck.convs[last - number](stages[number].permute(0, 3, 1, 2))
        if number in neck.fpn_top_down_levels and number != last:
            found = found + F.interpolate(maps[0], scale_factor=2.0, mode="nearest")
        maps.insert(0, found)
    return maps
