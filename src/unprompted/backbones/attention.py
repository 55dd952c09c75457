"""Memory attention of SAM2 for several objects at once, rearranged so that a CPU does less; equal results.

Values are an affine map of memory tokens that are four times narrower than attention, and the weights of a
query sum to one. So the mean of mapped tokens is the map of the mean token: tokens are averaged first and
mapped then. And until the first look at memory all objects are alike: what comes before is done once. From
there on objects go one by one: eight in one product are no faster, and room for them all at once is fetched
from the system, and emptied by it, again and again.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_ROWS = 256  # queries weighed at once, so that their weights stay in the cache


def rearranges(module: Any, device: torch.device) -> bool:
    """Whether `attended` is faster than a memory attention: one head, on a CPU, not in training."""
    return one_headed(module) and device.type == "cpu" and not module.training


def one_headed(module: Any) -> bool:
    """Whether `attended` can take the place of a memory attention."""
    heads: int = module.config.memory_attention_num_attention_heads
    return heads == 1


def pooled(cells: Tensor, pool: int) -> Tensor:
    """Means over squares of `pool` by `pool` places: ``(HW, ...)`` to ``(HW / pool^2, ...)``."""
    if pool == 1:
        return cells
    squares = round(len(cells) ** 0.5) // pool
    return cells.unflatten(0, (squares, pool, squares, pool)).mean(dim=(1, 3)).flatten(0, 1)


def attended(
    module: Any,
    current: Tensor,
    position: Tensor,
    memory: Tensor,
    codes: Tensor,
    pointers: int,
    pool: int = 1,
) -> Tensor:
    """What `module` gives for every object.

    Args:
        module: transformers' `Sam2VideoMemoryAttention`.
        current: features of the frame, ``(HW, C)``.
        position: their position code, ``(HW, C)``.
        memory: tokens of every object, ``(K, N, M)``.
        codes: position codes of the tokens, ``(N, M)``.
        pointers: how many of the last tokens are pointers, which have no place in the frame.
        pool: side of the squares whose mean each token is; it then counts as all of them.

    Returns:
        ``(K, HW, C)``.
    """
    first, *others = module.layers
    ids = module.position_ids.float()
    turns = _turns(module, ids)
    keyed = _Keys(codes, _turns(module, pooled(ids, pool)), pointers, pool)
    alike = current + 0.1 * position
    alike = alike + _looked_around(first, alike, turns)
    results = []
    for tokens in memory.contiguous():
        found = _remembered(first, alike, tokens, turns, keyed)
        for layer in others:
            found = found + _looked_around(layer, found, turns)
            found = _remembered(layer, found, tokens, turns, keyed)
        results.append(module.layer_norm(found))
    return torch.stack(results)


@dataclass(frozen=True, eq=False)
class _Keys:
    """What tokens have in common, whatever the object.

    Attributes:
        codes: their position codes, ``(N, M)``.
        turns: rotary code of the places of one entry, ``(n, C/2)``.
        pointers: how many of the last tokens are pointers.
        pool: side of the squares whose mean a token is.
    """

    codes: Tensor
    turns: Tensor
    pointers: int
    pool: int

    def of(self, attention: Any, tokens: Tensor) -> Tensor:
        """Keys ``(N, C)`` of the tokens ``(N, M)`` of one object."""
        keys, placed = attention.k_proj(tokens + self.codes), len(tokens) - self.pointers
        return torch.cat([_turned(keys[:placed], self.turns), keys[placed:]])

    @property
    def bias(self) -> Tensor | None:
        """What is added to scores ``(N,)``, so that the mean of some places counts as often as they would."""
        if self.pool == 1:
            return None
        bias = self.codes.new_zeros(len(self.codes))
        bias[: len(bias) - self.pointers] = 2 * math.log(self.pool)
        return bias


def _looked_around(layer: Any, found: Tensor, turns: Tensor) -> Tensor:
    """Self-attention of a frame ``(HW, C)``."""
    attention, seen = layer.self_attn, layer.layer_norm1(found)
    queries = _turned(attention.q_proj(seen) * attention.scaling, turns)
    keys = _turned(attention.k_proj(seen), turns)
    result: Tensor = attention.o_proj(_weighed(queries, keys, attention.v_proj(seen)))
    return result


def _remembered(layer: Any, found: Tensor, tokens: Tensor, turns: Tensor, keyed: "_Keys") -> Tensor:
    """A frame ``(HW, C)`` after cross-attention to the tokens ``(N, M)`` of one object, and the MLP."""
    attention = layer.cross_attn_image
    queries = _turned(attention.q_proj(layer.layer_norm2(found)) * attention.scaling, turns)
    means = _weighed(queries, keyed.of(attention, tokens), tokens, keyed.bias)
    found = found + attention.o_proj(attention.v_proj(means))
    result: Tensor = found + layer.linear2(layer.activation(layer.linear1(layer.layer_norm3(found))))
    return result


def _weighed(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
    """The mean of values ``(N, V)`` for each query ``(HW, C)``, by the softmax over keys ``(N, C)``."""
    parts = queries.split(_ROWS)
    return torch.cat([F.linear(part, keys, bias).softmax(dim=-1) @ values for part in parts])


def _turns(module: Any, ids: Tensor) -> Tensor:
    """The rotary code of places ``(n, 2)`` as complex numbers, ``(n, C/2)``."""
    cosine, sine = (part.float()[0, :, ::2] for part in module.rotary_emb(ids, ids))
    return torch.complex(cosine, sine)


def _turned(vectors: Tensor, turns: Tensor) -> Tensor:
    """Vectors ``(n HW, C)`` turned by the rotary code of their places; pairs are complex numbers."""
    pairs = torch.view_as_complex(vectors.float().unflatten(-1, (-1, 2)))
    turned = pairs.unflatten(0, (-1, len(turns))) * turns
    return torch.view_as_real(turned.flatten(0, 1)).flatten(-2).to(vectors.dtype)
