"""Adaptation of a backbone to the support: brief fine-tuning on episodes drawn from labelled cases.

A labelled case plays query, other cases (or an augmented self) play support, as at inference. Training first
leaves some cases out and is judged on them; only if they are segmented better than before do they join for
the rest of the budget. Methods that train the backbone themselves say how by an `Objective`.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from unprompted.adaptation.objective import Objective
from unprompted.adaptation.settings import Adaptation
from unprompted.adaptation.tuner import Tuner
from unprompted.backbones.adapted import Adapted, trainable
from unprompted.backbones.base import Backbone
from unprompted.errors import UsageError
from unprompted.methods.base import Method, Progress, SupportFrames, TrainsBackbone
from unprompted.training.checkpoint import NO_CHECKPOINT, Checkpoint


def adapt(
    backbone: Backbone,
    support: SupportFrames,
    settings: Adaptation,
    seed: int,
    progress: Progress = lambda *_: None,
    clock: Callable[[], float] = time.perf_counter,
    objective: Objective | None = None,
    checkpoint: Checkpoint = NO_CHECKPOINT,
) -> Adapted:
    """Fine-tune a copy of the backbone on the support within a budget.

    Args:
        backbone: stays as it is.
        support: labelled frames of one or several cases; of several patients, whole ones are left out.
        settings: budget and choices.
        seed: of episodes and augmentation.
        progress: told the share of the budget that is spent, in percent.
        clock: seconds, for tests.
        objective: what is trained and how; None trains memory attention and one decoding.
        checkpoint: where training is kept meanwhile, and resumed from.

    Raises:
        UsageError: the backbone cannot be trained.
    """
    base = trainable(backbone)
    tuner = Tuner(base, support, settings, seed, objective)
    seen, left_out = split(support, settings.left_out)
    made_by = {
        "digest": base.digest,
        "seed": seed,
        "support": _digest(support),
        "settings": asdict(settings),
        "objective": repr(objective),
        "processes": tuner.processes.count,
    }
    training = _Training(tuner, settings, seen, left_out, made_by, checkpoint)
    spent = training.resumed()
    budget = Budget(settings, lambda: tuner.processes.agreed(clock()), progress, spent)
    training.alone(budget)
    history = tuple(tuple(row) for row in training.course.history)
    if not training.course.gained:
        training.over()
        return Adapted(backbone, base.digest, {}, 0, history)
    training.together(budget, sorted({*seen, *left_out}))
    training.over()
    return Adapted(tuner.averaged(), base.digest, tuner.tensors(), tuner.step, history)


def split(support: SupportFrames, share: float) -> tuple[list[int], list[int]]:
    """Cases to train on and cases to judge by, of other patients; of a single case both are that one.

    Args:
        support: labelled frames; a case without any label is on neither side.
        share: of the patients, or of the cases of a single one, that is left out; one at least.
    """
    labelled = support.shows().any(dim=1).tolist()
    rows = zip(support.groups, support.cases, labelled, strict=True)
    told = sorted({(group, case) for group, case, shown in rows if shown})
    groups = sorted({group for group, _ in told})
    out = groups[len(groups) - max(1, int(len(groups) * share)) :]
    left_out = [case for group, case in told if group in out]
    return [case for group, case in told if group not in out] or left_out, left_out


def adapted_for(
    method: Method,
    backbone: Backbone,
    frames: Callable[[], SupportFrames],
    settings: Adaptation,
    seed: int,
    progress: Progress,
    checkpoint: Checkpoint,
) -> Adapted | None:
    """The backbone trained as the method wants it, or else within the budget; None where neither is asked.

    Args:
        method: may train the backbone itself.
        backbone: stays as it is.
        frames: gives labelled frames to train on.
        settings: the budget; of nothing trains nothing.
        seed: of everything random.
        progress: told the share of the budget that is spent.
        checkpoint: where training is kept meanwhile.

    Raises:
        UsageError: the backbone cannot be trained, or would be trained twice.
    """
    if isinstance(method, TrainsBackbone) and method.training:
        if settings:
            raise UsageError(
                "the method trains the backbone itself; leave --adapt out, or give --set training=false"
            )
        return method.adapt(backbone, frames(), seed, progress, checkpoint)
    if not settings:
        return None
    return adapt(backbone, frames(), settings, seed, progress, checkpoint=checkpoint)


def _digest(support: SupportFrames) -> str:
    """SHA-256 over frames, labels and whom they show."""
    digest = hashlib.sha256(repr((support.groups, support.cases, support.positions)).encode())
    for tensor in (support.pixels, support.labels):
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


@dataclass
class _Course:
    """How far training is: checks of the cases left out, and the state that segmented them best.

    Attributes:
        history: ``(seconds, steps, Dice)`` of every check.
        kept: the best state, None before the first check.
        check: checks made, the one before training not counted.
        gained: the check that was best, 0 where none was better than before training.
        together: whether all cases are trained on by now.
        stopped: steps that had ceased to help.
        last: steps at which training on all cases ends, None where the budget decides.
    """

    history: list[Any]
    kept: Any = None
    check: int = 0
    gained: int = 0
    together: bool = False
    stopped: int = 0
    last: int | None = None

    @property
    def best(self) -> float:
        """The highest Dice so far."""
        return float(max(dice for _, _, dice in self.history))


class _Training:
    """Training without some cases, then with all of them; kept in a checkpoint after every part."""

    def __init__(
        self,
        tuner: Tuner,
        settings: Adaptation,
        fewer: list[int],
        left_out: list[int],
        made_by: dict[str, Any],
        checkpoint: Checkpoint,
    ) -> None:
        self.tuner, self.settings, self.checkpoint = tuner, settings, checkpoint
        self.fewer, self.left_out, self.made_by = fewer, left_out, made_by
        self.course = _Course([])

    def resumed(self) -> float:
        """Go on from the checkpoint, if there is one; gives back the seconds that are spent already."""
        found = self.checkpoint.load()
        if found is None or found["made_by"] != self.made_by:
            return 0.0
        self.course = _Course(**found["course"])
        self.tuner.restore(found["state"])
        self.tuner.source.setstate(found["random"][self.tuner.processes.rank])
        return float(found["seconds"])

    def alone(self, budget: "Budget") -> None:
        """Train without the cases left out, and keep the state that segments them best."""
        tuner, settings, course = self.tuner, self.settings, self.course
        if not course.history:
            course.history.append((budget.seconds(), 0, tuner.score(self.left_out)))
            course.kept = tuner.state()
        while not self._alone_is_over():
            course.check += 1
            while budget.spent(tuner.step) < settings.alone * course.check / settings.checks:
                tuner.train(self.fewer, budget.spent(tuner.step))
            found, best = tuner.score(self.left_out), course.best
            course.history.append((budget.seconds(), tuner.step, found))
            if found > best:
                course.kept, course.gained = tuner.state(), course.check
            self._save(budget)

    def _alone_is_over(self) -> bool:
        """Whether enough checks were made, or enough of them without gain."""
        course, settings = self.course, self.settings
        without_gain = course.check - course.gained
        return course.together or course.check >= settings.checks or without_gain >= settings.patience

    def together(self, budget: "Budget", cases: list[int]) -> None:
        """Go on from the best state with all cases."""
        tuner, course = self.tuner, self.course
        if not course.together:
            course.together = True
            course.stopped = tuner.step - course.kept["step"]
            tuner.restore(course.kept)
            course.kept = None
            course.last = 2 * tuner.step if course.stopped else None  # as many again: more would do harm
        saved = budget.spent(tuner.step + course.stopped)
        while (spent := budget.spent(tuner.step + course.stopped)) < 1:
            if course.last is not None and tuner.step >= course.last:
                break
            if spent - saved >= self.settings.alone / self.settings.checks:
                saved = spent
                self._save(budget)
            tuner.train(cases, spent)

    def over(self) -> None:
        """Keep no checkpoint any longer."""
        if self.tuner.processes.rank == 0:
            self.checkpoint.clear()

    def _save(self, budget: "Budget") -> None:
        self.tuner.forget()  # here, so that training goes on alike from the checkpoint and without one
        if not self.checkpoint:
            return
        processes = self.tuner.processes
        kept = {
            "made_by": self.made_by,
            "course": vars(self.course),
            "state": self.tuner.state(),
            "random": processes.gathered(self.tuner.source.getstate()),
            "seconds": budget.seconds(),
        }
        if processes.rank == 0:
            self.checkpoint.save(kept)


class Budget:
    """How much of the time or of the steps is spent, whichever is more."""

    def __init__(
        self,
        settings: Adaptation,
        clock: Callable[[], float],
        progress: Progress,
        seconds: float = 0.0,
    ) -> None:
        self.settings, self.clock, self.progress = settings, clock, progress
        self.begun = clock() - seconds

    def seconds(self) -> float:
        """Time since the budget was opened."""
        return self.clock() - self.begun

    def spent(self, steps: int) -> float:
        """Share of the budget, 0 and more."""
        settings = self.settings
        by_time = self.seconds() / settings.seconds if settings.seconds else 0.0
        share = max(by_time, steps / settings.steps if settings.steps else 0.0)
        self.progress("adapting", min(100, int(100 * share)), 100)
        return share
