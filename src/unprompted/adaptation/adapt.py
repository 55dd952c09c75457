"""Adaptation of a backbone to the support: brief fine-tuning on episodes drawn from labelled cases.

Not part of any of the papers: an extension, off unless asked for. A labelled case plays query, other
cases (or an augmented self) play support, as at inference. Training first leaves one case out and is
judged on it; only if that case is segmented better than before does it join for the rest of the budget.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from unprompted.adaptation.settings import Adaptation
from unprompted.adaptation.tuner import Tuner
from unprompted.backbones.base import Backbone
from unprompted.backbones.lora import load_changes
from unprompted.backbones.sam2 import Sam2Backbone
from unprompted.errors import UsageError
from unprompted.methods.base import Progress, SupportFrames


@dataclass(frozen=True, eq=False)
class Adapted:
    """What came of it.

    Attributes:
        backbone: the adapted backbone, or the one given where adapting did not help.
        base_digest: digest of the backbone that was given.
        tensors: what changed in the backbone, to be saved; empty where adapting did not help.
        steps: optimiser steps taken on what is kept.
        history: ``(seconds, steps, Dice of the case left out)`` of every check; the first is unadapted.
    """

    backbone: Backbone
    base_digest: str
    tensors: dict[str, Tensor]
    steps: int = 0
    history: tuple[tuple[float, int, float], ...] = ()


def adapt(
    backbone: Backbone,
    support: SupportFrames,
    settings: Adaptation,
    seed: int,
    progress: Progress = lambda *_: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Adapted:
    """Fine-tune a copy of the backbone on the support within a budget.

    Args:
        backbone: stays as it is.
        support: labelled frames of one or several cases.
        settings: budget and choices.
        seed: of episodes and augmentation.
        progress: told the share of the budget that is spent, in percent.
        clock: seconds, for tests.

    Raises:
        UsageError: the backbone cannot be trained.
    """
    if not isinstance(backbone, Sam2Backbone):
        raise UsageError(f"{backbone.name} cannot be adapted; use a SAM2 backbone or leave --adapt out")
    budget = Budget(settings, clock, progress)
    tuner = Tuner(backbone, support, settings, seed)
    labelled = support.shows().any(dim=1).tolist()
    cases = sorted({case for case, shown in zip(support.cases, labelled, strict=True) if shown})
    left_out = cases[-1]
    fewer = cases[:-1] or cases
    best, kept = tuner.score(left_out), tuner.state()
    history = [(budget.seconds(), 0, best)]
    gained = 0
    for check in range(1, settings.checks + 1):
        while budget.spent(tuner.step) < settings.alone * check / settings.checks:
            tuner.train(fewer, budget.spent(tuner.step))
        found = tuner.score(left_out)
        history.append((budget.seconds(), tuner.step, found))
        if found > best:
            best, kept, gained = found, tuner.state(), check
        elif check - gained >= settings.patience:
            break
    if not gained:
        return Adapted(backbone, backbone.digest, {}, 0, tuple(history))
    stopped = tuner.step - kept["step"]  # steps that had ceased to help
    tuner.restore(kept)
    last = 2 * tuner.step if stopped else None  # as many again, where more would do harm
    while budget.spent(tuner.step + stopped) < 1 and (last is None or tuner.step < last):
        tuner.train(cases, budget.spent(tuner.step + stopped))
    return Adapted(tuner.averaged(), backbone.digest, tuner.tensors(), tuner.step, tuple(history))


def restored(backbone: Backbone, tensors: dict[str, Tensor]) -> Adapted:
    """An adapted backbone again, from the one it came from and what had changed.

    Raises:
        UsageError: the backbone cannot be adapted.
        KeyError: the tensors belong to another model.
    """
    if not isinstance(backbone, Sam2Backbone):
        raise UsageError(f"{backbone.name} cannot be adapted, but the task was; fit again without --adapt")
    model = copy.deepcopy(backbone.model)
    load_changes(model, tensors)
    return Adapted(Sam2Backbone(model, backbone.name), backbone.digest, tensors)


class Budget:
    """How much of the time or of the steps is spent."""

    def __init__(self, settings: Adaptation, clock: Callable[[], float], progress: Progress) -> None:
        self.settings, self.clock, self.progress = settings, clock, progress
        self.begun = clock()

    def seconds(self) -> float:
        """Time since the budget was opened."""
        return self.clock() - self.begun

    def spent(self, steps: int) -> float:
        """Share of the budget, 0 and more."""
        by_steps = self.settings.steps > 0
        share = steps / self.settings.steps if by_steps else self.seconds() / self.settings.seconds
        self.progress("adapting", min(100, int(100 * share)), 100)
        return share
