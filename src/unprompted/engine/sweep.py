"""The only frame loop: from the method's first frame to both ends."""

from collections.abc import Iterator
from typing import Any

import torch

from unprompted.backbones.base import POINTER_FRAMES, Backbone
from unprompted.engine.frames import EncodedFrames
from unprompted.engine.through import Following
from unprompted.methods.base import Method, Place, Step


def places(length: int, start: int) -> Iterator[Place]:
    """Every frame once: from the start to the last frame, then from the start down to the first."""
    yield from (Place(t, start, +1) for t in range(start, length))
    yield from (Place(t, start, -1) for t in range(start - 1, -1, -1))


@torch.no_grad()
def sweep(
    method: Method, backbone: Backbone, fitted: Any, frames: EncodedFrames
) -> Iterator[tuple[int, Step]]:
    """Segment all frames of one case, in sweep order.

    Args:
        method: segments a frame at a time.
        backbone: what it does that with; one that follows the sweep is told the masks of every frame.
        fitted: the method's record of the support.
        frames: the case.

    The backward sweep starts from the state and memory that the forward sweep had near the start, so
    that neither end of a case steers the other.
    """
    pooled = frames.pooled() if method.looks_ahead else torch.empty(len(frames), 0)
    start = method.start(fitted, pooled)
    state, bank = method.begin(fitted, pooled, start)
    first, looking = None, backbone
    for at in places(len(frames), start):
        if at.direction < 0 and at.position == start - 1:
            state, bank = first if first is not None else (state, bank)
            looking = backbone
        features = frames[at.position]
        step = method.step(looking, state, features, bank, at)
        state = step.state
        if step.entry is not None:
            bank = bank.remembering(at.position, step.entry)
        if at.direction > 0 and at.position - start == POINTER_FRAMES:
            first = (state, bank)
        if isinstance(looking, Following):
            looking = looking.after(step.decoded)
        yield at.position, step
