"""Memory attention of SAM2 for several objects at once, rearranged so that a CPU does less; equal results.

Values are an affine map of memory tokens that are four times narrower than attention, and the weights of a
query sum to one. So the mean of mapped tokens is the map of the mean token: tokens are averaged first and
mapped then. And until the first look at memory all objects are alike: what comes before is done once.
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
        current: features of the frame, ``(1, HW, C)``.
        position: their position code, ``(1, HW, C)``.
        memory: tokens of every object, ``(K, N, M)``.
        codes: position codes of the tokens, ``(1, N, M)``.
        pointers: how many of the last tokens are pointers, which have no place in the frame.

    Returns:
        ``(K, HW, C)``.
    """
    found = current + 0.1 * position
    turns = module.rotary_emb(found, module.position_ids)
    keys = memory + codes
    for layer in module.layers:
        seen = layer.layer_norm1(found).unsqueeze(1)
        found = found + layer.self_attn(query=seen, key=seen, value=seen, position_embeddings=turns)[0][:, 0]
        found = found + _crossed(
            layer.cross_attn_image, layer.layer_norm2(found), keys, memory, turns, pointers
        )
        found = found + layer.linear2(layer.activation(layer.linear1(layer.layer_norm3(found))))
    result: Tensor = module.layer_norm(found)
    return result


def _crossed(
    attention: Any, seen: Tensor, keys: Tensor, memory: Tensor, turns: tuple[Tensor, Tensor], pointers: int
) -> Tensor:
    """Cross-attention of ``(K or 1, HW, C)`` to the memory of every object."""
    queries = _turned(attention.q_proj(seen) * attention.scaling, turns)
    means = []
    for k, tokens in enumerate(memory):
        key, placed = attention.k_proj(keys[k]), len(tokens) - pointers
        columns = torch.cat([_turned(key[:placed], turns), key[placed:]]).T
        rows = queries[k if len(queries) > 1 else 0].split(_ROWS)
        means.append(torch.cat([_weighed(part @ columns, tokens) for part in rows]))
    result: Tensor = attention.o_proj(attention.v_proj(torch.stack(means)))
    return result


def _weighed(scores: Tensor, tokens: Tensor) -> Tensor:
    """The mean of tokens by the softmax of scores; torch's own takes four times as long over long rows."""
    weights = scores.sub_(scores.detach().amax(dim=-1, keepdim=True)).exp_()
    return (weights @ tokens) / weights.sum(dim=-1, keepdim=True)


def _turned(vectors: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Vectors ``(..., n HW, C)`` turned by the rotary code of their places; pairs are complex numbers."""
    cosine, sine = (part.float().reshape(-1, part.shape[-1])[:, ::2] for part in turns)
    pairs = torch.view_as_complex(vectors.float().unflatten(-1, (-1, 2)).contiguous())
    turned = pairs.unflatten(-2, (-1, len(cosine))) * torch.complex(cosine, sine)
    return torch.view_as_real(turned.flatten(-3, -2)).flatten(-2).to(vectors.dtype)
