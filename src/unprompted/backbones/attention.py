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

from unprompted.backbones.groups import Groups, widened

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
    places: Tensor | None = None,
    whole: int = 0,
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
        places: where each object is looked for, ``(K, HW)`` bool; None for everywhere. Of other places the
            mean of those in a square asks memory for all of them. Memory holds means of squares, too, but for
            these places and a square's width around them.
        whole: how many of the first entries of memory keep all of their tokens.

    Returns:
        ``(K, HW, C)``.
    """
    ids = module.position_ids.float()
    turns = _turns(module, ids)
    keyed = _Keys(codes, _turns(module, pooled(ids, pool)), pointers, _pool_bias(codes, pointers, pool))
    alike = current + 0.1 * position
    alike = alike + _looked_around(module.layers[0], alike, turns)
    results = []
    for number, tokens in enumerate(memory.contiguous()):
        if places is None or bool(places[number].all()):
            found = _attended(module.layers, alike, tokens, turns, keyed)
        else:
            asking, own, theirs = Groups.of(places[number]), keyed, tokens
            if pool == 1:
                heard = Groups.of(widened(places[number]))
                own, theirs = keyed.narrowed(tokens, heard, _turns(module, heard.means(ids)), whole)
            means, here = asking.means(alike), _turns(module, asking.means(ids))
            gained = _attended(module.layers, means, theirs, here, own, asking.bias) - means
            found = alike + gained[asking.group]
        results.append(module.layer_norm(found))
    return torch.stack(results)


def _attended(
    layers: Any, found: Tensor, tokens: Tensor, turns: Tensor, keyed: "_Keys", bias: Tensor | None = None
) -> Tensor:
    """A frame ``(n, C)`` after all layers, for one object; the first self-attention is done already."""
    first, *others = layers
    found = _remembered(first, found, tokens, turns, keyed)
    for layer in others:
        found = found + _looked_around(layer, found, turns, bias)
        found = _remembered(layer, found, tokens, turns, keyed)
    return found


@dataclass(frozen=True, eq=False)
class _Keys:
    """What tokens have in common, whatever the object.

    Attributes:
        codes: their position codes, ``(N, M)``.
        turns: rotary code of the places of one entry, ``(n, C/2)``.
        pointers: how many of the last tokens are pointers.
        bias: what is added to scores ``(N,)``, so that a mean of places counts as often as they would.
    """

    codes: Tensor
    turns: Tensor
    pointers: int
    bias: Tensor | None

    def of(self, attention: Any, tokens: Tensor) -> Tensor:
        """Keys ``(N, C)`` of the tokens ``(N, M)`` of one object."""
        keys, placed = attention.k_proj(tokens + self.codes), len(tokens) - self.pointers
        return torch.cat([_turned(keys[:placed], self.turns), keys[placed:]])

    def narrowed(self, tokens: Tensor, groups: Groups, turns: Tensor, whole: int) -> tuple["_Keys", Tensor]:
        """The same for the means ``(n, M)`` of groups of places in all but the first `whole` entries."""
        cells, placed = len(groups.group), len(tokens) - self.pointers
        first, entries = whole * cells, placed // cells - whole

        def means(found: Tensor) -> Tensor:
            by_place = found[first:placed].unflatten(0, (entries, cells)).transpose(0, 1)
            narrow = groups.means(by_place).transpose(0, 1).flatten(0, 1)
            return torch.cat([found[:first], narrow, found[placed:]])

        none = groups.bias.new_zeros
        bias = torch.cat([none(first), groups.bias.repeat(entries), none(self.pointers)])
        all_turns = torch.cat([self.turns.repeat(whole, 1), turns.repeat(entries, 1)])
        return _Keys(means(self.codes), all_turns, self.pointers, bias), means(tokens)


def _pool_bias(codes: Tensor, pointers: int, pool: int) -> Tensor | None:
    """What makes means over squares count as often as the places in them."""
    if pool == 1:
        return None
    bias = codes.new_zeros(len(codes))
    bias[: len(bias) - pointers] = 2 * math.log(pool)
    return bias


def _looked_around(layer: Any, found: Tensor, turns: Tensor, bias: Tensor | None = None) -> Tensor:
    """Self-attention of a frame ``(HW, C)``."""
    attention, seen = layer.self_attn, layer.layer_norm1(found)
    queries = _turned(attention.q_proj(seen) * attention.scaling, turns)
    keys = _turned(attention.k_proj(seen), turns)
    result: Tensor = attention.o_proj(_weighed(queries, keys, attention.v_proj(seen), bias))
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
    bias = None if bias is None else bias.to(keys.dtype)
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
