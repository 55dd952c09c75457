"""Memory attention of SAM2 for several objects at once, rearranged so that a CPU does less; equal results.

Values are an affine map of memory tokens that are four times narrower than attention, and the weights of a
query sum to one. So the mean of mapped tokens is the map of the mean token: tokens are averaged first and
mapped then. And until the first look at memory all objects are alike: what comes before is done once. From
there on objects go one by one: eight in one product are no faster, and room for them all at once is fetched
from the system, and emptied by it, again and again.
"""

from typing import Any

import torch
from torch import Tensor

_ROWS = 256  # queries weighed at once, so that their weights stay in the cache


def rearranges(module: Any, device: torch.device) -> bool:
    """Whether `attended` takes the place of a memory attention: one head, on a CPU, not in training."""
    return (
        module.config.memory_attention_num_attention_heads == 1
        and device.type == "cpu"
        and not module.training
    )


def attended(
    module: Any, current: Tensor, position: Tensor, memory: Tensor, codes: Tensor, pointers: int
) -> Tensor:
    """What `module` gives for every object.

    Args:
        module: transformers' `Sam2VideoMemoryAttention`.
        current: features of the frame, ``(HW, C)``.
        position: their position code, ``(HW, C)``.
        memory: tokens of every object, ``(K, N, M)``.
        codes: position codes of the tokens, ``(N, M)``.
        pointers: how many of the last tokens are pointers, which have no place in the frame.

    Returns:
        ``(K, HW, C)``.
    """
    first, *others = module.layers
    turns = _turns(module, current)
    alike = current + 0.1 * position
    alike = alike + _looked_around(first, alike, turns)
    results = []
    for tokens in memory.contiguous():
        found = _remembered(first, alike, tokens, codes, turns, pointers)
        for layer in others:
            found = found + _looked_around(layer, found, turns)
            found = _remembered(layer, found, tokens, codes, turns, pointers)
        results.append(module.layer_norm(found))
    return torch.stack(results)


def _looked_around(layer: Any, found: Tensor, turns: Tensor) -> Tensor:
    """Self-attention of a frame ``(HW, C)``."""
    attention, seen = layer.self_attn, layer.layer_norm1(found)
    queries = _turned(attention.q_proj(seen) * attention.scaling, turns)
    keys = _turned(attention.k_proj(seen), turns)
    result: Tensor = attention.o_proj(_weighed(queries, keys, attention.v_proj(seen)))
    return result


def _remembered(
    layer: Any, found: Tensor, tokens: Tensor, codes: Tensor, turns: Tensor, pointers: int
) -> Tensor:
    """A frame ``(HW, C)`` after cross-attention to the tokens ``(N, M)`` of one object, and the MLP."""
    attention, placed = layer.cross_attn_image, len(tokens) - pointers
    queries = _turned(attention.q_proj(layer.layer_norm2(found)) * attention.scaling, turns)
    keys = attention.k_proj(tokens + codes)
    keys = torch.cat([_turned(keys[:placed], turns), keys[placed:]])
    found = found + attention.o_proj(attention.v_proj(_weighed(queries, keys, tokens)))
    result: Tensor = found + layer.linear2(layer.activation(layer.linear1(layer.layer_norm3(found))))
    return result


def _weighed(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """The mean of values ``(N, V)`` for each query ``(HW, C)``, by the softmax over keys ``(N, C)``."""
    return torch.cat([(part @ keys.T).softmax(dim=-1) @ values for part in queries.split(_ROWS)])


def _turns(module: Any, like: Tensor) -> Tensor:
    """The rotary code of every place as complex numbers, ``(HW, C/2)``."""
    cosine, sine = (part.float()[0, :, ::2] for part in module.rotary_emb(like, module.position_ids))
    return torch.complex(cosine, sine)


def _turned(vectors: Tensor, turns: Tensor) -> Tensor:
    """Vectors ``(n HW, C)`` turned by the rotary code of their places; pairs are complex numbers."""
    pairs = torch.view_as_complex(vectors.float().unflatten(-1, (-1, 2)))
    turned = pairs.unflatten(0, (-1, len(turns))) * turns
    return torch.view_as_real(turned.flatten(0, 1)).flatten(-2).to(vectors.dtype)
