"""Training of the refiners of a task on its support."""

import copy
import logging
import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from unprompted.backbones.base import Backbone
from unprompted.engine.frames import EncodedFrames
from unprompted.engine.gallery import Gallery
from unprompted.engine.passes import Finish
from unprompted.engine.views import World
from unprompted.methods.base import Method, Progress, SupportFrames
from unprompted.methods.support_memory import spread
from unprompted.refinement.examples import Gathering, parts_of
from unprompted.refinement.network import Refiner
from unprompted.refinement.reading import Reading
from unprompted.refinement.settings import Refinement
from unprompted.refinement.side import side_for
from unprompted.refinement.trainer import Trainer, judge

_MOST_LOSS = 0.01  # of Dice on the cases left out, few as they are, below which masks are left alone
_LOG = logging.getLogger(__name__)

History = tuple[tuple[int, float], ...]


@dataclass(frozen=True, eq=False)
class Refined:
    """What refinement came to, by the prefix of each world.

    Attributes:
        steps: of the settings; 0 where nothing was to be refined.
        refiners: those that helped the part of the support left out.
        history: ``(step, Dice on that part)``, the first one without refinement; empty after loading.
    """

    steps: int = 0
    refiners: dict[str, Refiner] = field(default_factory=dict)
    history: dict[str, History] = field(default_factory=dict)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Everything that is saved with a task."""
        return {
            prefix + name: value.detach().cpu()
            for prefix, refiner in self.refiners.items()
            for name, value in refiner.state_dict().items()
        }

    @property
    def finish(self) -> dict[str, Finish]:
        """What redraws the masks of each world."""
        return {prefix: partial(_finish, refiner) for prefix, refiner in self.refiners.items()}


def _finish(refiner: Refiner, frames: EncodedFrames, position: int, logits: Tensor) -> tuple[Tensor, Tensor]:
    return refiner.refined(frames.shown(position), logits)


UNREFINED = Refined()


def refine(
    method: Method,
    backbone: Backbone,
    gallery: Gallery,
    learned: dict[str, Tensor],
    settings: Refinement,
    seed: int,
    progress: Progress,
) -> Refined:
    """Train a refiner for every world that a method learns in.

    Args:
        method: draws the masks.
        backbone: encodes.
        gallery: the support.
        learned: what the method learned from it.
        settings: what to do.
        seed: decides everything random.
        progress: called with what is being done and how far it is.
    """
    refiners: dict[str, Refiner] = {}
    history: dict[str, History] = {}
    for world in gallery.geometries if settings else ():
        frames = gallery.frames(world, backbone.input_size)
        side = side_for(max(max(e.labels.shape) for e in gallery.support.examples), frames.labels)
        learner = Gathering(method, backbone, frames, world.own(learned), settings, side)
        found, history[world.prefix] = _learn(learner, frames, settings, seed, progress)
        if found is not None:
            refiners[world.prefix] = found
    return Refined(settings.steps, refiners, history)


def restored(
    steps: int, tensors: dict[str, Tensor], worlds: Iterable[World], device: torch.device
) -> Refined:
    """Refiners again, from what `Refined.tensors` gave.

    Raises:
        KeyError: the tensors are not those of refiners.
        RuntimeError: they do not fit together.
    """
    own = {world.prefix: world.own(tensors) for world in worlds}
    return Refined(steps, {name: Refiner.restored(found).to(device) for name, found in own.items() if found})


def _learn(
    gathering: Gathering, support: SupportFrames, settings: Refinement, seed: int, progress: Progress
) -> tuple[Refiner | None, History]:
    """A refiner for one world, and the Dice of a part left out while it learned.

    The support is parted by cases, a single case into halves. Every part is segmented by the method
    with the other parts as support, and the refiner learns to turn those masks into the true ones. The
    last third of the parts is left out first, to see whether training helps; then training goes on, twice
    as long, with all parts.
    """
    parts = parts_of(support)
    if not parts:
        _LOG.info("masks are not refined: that takes two cases, or slices, that each show every class")
        return None, ()
    examples = [gathering.part(own, parts, progress) for own in parts]
    first = len(parts) - max(1, round(len(parts) / 3))
    seen, last = ([e for part in some for e in part] for some in (examples[:first], examples[first:]))
    judged = spread(last, settings.judged)
    steps = settings.steps_for(support.objects)
    judging = -(-steps // 2)
    with torch.random.fork_rng(devices=[]):  # the caller's random state stays as it is
        torch.manual_seed(seed)
        refiner = Refiner.for_frames(judged[0].reading, settings.width)
    refiner.standardise(Reading.stacked([e.reading for e in seen]))
    refiner.to(gathering.backbone.device)
    trainer = Trainer(refiner, settings, judging, random.Random(seed))
    history, kept = [(0, judge(judged, None).dice)], None
    best = history[0][1] - _MOST_LOSS
    for step in range(1, judging + 1):
        trainer.step(seen)
        progress("refining", step, judging + steps)
        if step % math.ceil(judging / settings.checks) == 0 or step == judging:
            found = judge(judged, refiner)
            if found.dice > best:
                refiner.trust.copy_(found.trust)
                kept, best = copy.deepcopy(refiner.state_dict()), found.dice
            history.append((step, found.dice))
    if kept is None:
        return None, tuple(history)
    refiner.load_state_dict(kept)
    trainer = Trainer(refiner, settings, steps, random.Random(seed + 1))
    for step in range(judging + 1, judging + steps + 1):
        trainer.step(seen + last)
        progress("refining", step, judging + steps)
    return refiner.eval().requires_grad_(False), tuple(history)
