"""Adaptation of a backbone to the support: brief fine-tuning on episodes drawn from labelled cases.

Not part of any of the papers: an extension, off unless asked for. A labelled case plays query, other
cases (or an augmented self) play support, as at inference. Training first leaves one case out and is
judged on it; only if that case is segmented better than before does it join for the rest of the budget.
"""

import copy
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unprompted.backbones.base import Features, MemoryBank, MemoryEntry
from unprompted.backbones.lora import add_adapters, merge_adapters
from unprompted.backbones.sam2 import Sam2Backbone
from unprompted.backbones.weights import MIN_INPUT_SIZE
from unprompted.errors import UsageError
from unprompted.methods.base import Progress, SupportFrames
from unprompted.methods.support_memory import cosine, spread
from unprompted.training.augment import Augmentation
from unprompted.training.objective import candidate_loss

_NOISE = 0.1  # standard deviation added to similarities, so that retrieval varies in training
_AVERAGING = 0.98  # decay of the averaged weights, which are what is kept
_SHOWN_SHARE = 0.85  # of query frames are drawn among those that show the class
_WARMUP = 10
_CHUNK = 8


@dataclass(frozen=True)
class Adaptation:
    """How a backbone is fine-tuned on the support.

    Attributes:
        seconds: time budget; 0 adapts nothing unless `steps` are given.
        steps: optimiser steps instead of a time budget, so that the result does not depend on the
            speed of the machine; 0 goes by time.
        learning_rate: peak, of AdamW; it falls to a tenth.
        frames: query frames a step.
        classes: most classes asked of a frame.
        retrieved: support frames a class in memory.
        pool: most support frames a class that are retrieved from.
        forgotten: support frames a step that are put in memory anew.
        half_share: share of steps at half the input size, which cost a quarter.
        alone: share of the budget during which a case is left out.
        checks: times that case is segmented meanwhile.
        patience: checks without gain after which training without it ends.
        judged: frames segmented at a check.
        single_mask_share: share of steps that train the single-mask token.
        whole_below: backbones of fewer parameters are trained whole, others through LoRA.
        rank: of LoRA.
        augmentation: change of query and support frames.
    """

    seconds: float = 0.0
    steps: int = 0
    learning_rate: float = 1e-3
    frames: int = 8
    classes: int = 3
    retrieved: int = 2
    pool: int = 8
    forgotten: int = 2
    half_share: float = 0.7
    alone: float = 0.5
    checks: int = 4
    patience: int = 2
    judged: int = 10
    single_mask_share: float = 0.1
    whole_below: int = 20_000_000
    rank: int = 16
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(rotation=15, scale=0.2, shear=8, shift=0.1, warp=0.02)
    )

    def __post_init__(self) -> None:
        if self.seconds < 0 or self.steps < 0:
            raise UsageError(f"adaptation of {self.seconds:g} s and {self.steps} steps; give 0 or more")

    def __bool__(self) -> bool:
        return self.seconds > 0 or self.steps > 0


@dataclass(frozen=True, eq=False)
class Adapted:
    """What came of it.

    Attributes:
        backbone: the adapted backbone, or the one given where adapting did not help.
        tensors: what changed in the backbone, to be saved; empty where adapting did not help.
        steps: optimiser steps taken on what is kept.
        history: ``(seconds, steps, Dice of the case left out)`` of every check; the first is unadapted.
    """

    backbone: Sam2Backbone
    tensors: dict[str, Tensor]
    steps: int
    history: tuple[tuple[float, int, float], ...]


def adapt(
    backbone: Sam2Backbone,
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
    """
    budget = _Budget(settings, clock, progress)
    tuner = _Tuner(backbone, support, settings, seed)
    cases = sorted(set(support.cases))
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
        return Adapted(backbone, {}, 0, tuple(history))
    stopped = tuner.step - kept["step"]  # steps that had ceased to help
    tuner.restore(kept)
    last = 2 * tuner.step if stopped else None  # as many again, where more would do harm
    while budget.spent(tuner.step + stopped) < 1 and (last is None or tuner.step < last):
        tuner.train(cases, budget.spent(tuner.step + stopped))
    return Adapted(tuner.averaged(), tuner.tensors(), tuner.step, tuple(history))


class _Budget:
    """How much of the time or of the steps is spent."""

    def __init__(self, settings: Adaptation, clock: Callable[[], float], progress: Progress) -> None:
        self.settings, self.clock, self.progress = settings, clock, progress
        self.begun = clock()

    def seconds(self) -> float:
        return self.clock() - self.begun

    def spent(self, steps: int) -> float:
        """Share of the budget, 0 and more."""
        by_steps = self.settings.steps > 0
        share = steps / self.settings.steps if by_steps else self.seconds() / self.settings.seconds
        self.progress("adapting", min(100, int(100 * share)), 100)
        return share


class _Tuner:
    """A copy of the backbone in training, its optimiser and its averaged weights."""

    def __init__(
        self, backbone: Sam2Backbone, support: SupportFrames, settings: Adaptation, seed: int
    ) -> None:
        parameters = sum(p.numel() for p in backbone.model.parameters())
        model = copy.deepcopy(backbone.model)
        self.name, self.settings, self.source = backbone.name, settings, random.Random(seed)
        whole = parameters < settings.whole_below
        if whole:
            model.requires_grad_(True)
        else:
            add_adapters(model, settings.rank, seed)
        self.model = model
        self.views = {backbone.input_size: _View(Sam2Backbone(model, backbone.name), support)}
        half = backbone.input_size // 2
        if whole and half >= MIN_INPUT_SIZE and half % 32 == 0:
            small = Sam2Backbone(model, backbone.name).sharing_weights_at(half)
            self.views[half] = _View(small, support.resized(half))
        self.shows = support.shows()
        self.support, self.step = support, 0
        per_class = (spread(column.nonzero()[:, 0].tolist(), settings.pool) for column in self.shows.T)
        self.held = sorted({frame for frames in per_class for frame in frames})
        self.pooled = self.views[min(self.views)].descriptors()
        trained = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": 0.01},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate)
        self.average = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}

    def train(self, cases: list[int], spent: float) -> None:
        """One optimiser step on frames of the given cases."""
        settings = self.settings
        rate = settings.learning_rate * min(1.0, (self.step + 1) / _WARMUP) * (1 - 0.9 * min(1.0, spent))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        small = self.source.random() < settings.half_share
        view = self.views[min(self.views) if small else max(self.views)]
        for oldest in list(view.entries)[: settings.forgotten]:
            del view.entries[oldest]  # made anew, by the present weights, when next asked for
        self.optimiser.zero_grad(set_to_none=True)
        self._loss(view, self._draw(cases), cases).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        decay = min(_AVERAGING, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for name, value in self.model.named_parameters():
                if value.requires_grad:
                    self.average[name].lerp_(value, 1 - decay)

    @torch.no_grad()
    def score(self, case: int) -> float:
        """Mean Dice over classes on evenly spaced frames of one case, with the averaged weights."""
        own = [n for n, c in enumerate(self.support.cases) if c == case and bool(self.shows[n].any())]
        overlap, total = torch.zeros(self.support.objects), torch.zeros(self.support.objects)
        view = _View(self.averaged(), self.support)
        for frame in spread(own, self.settings.judged):
            masks = self._masks(view, frame)
            truth = F.avg_pool2d(self.support.masks(frame).float()[:, None], 4)[:, 0] > 0.5
            overlap += (masks & truth).flatten(1).sum(1)
            total += masks.flatten(1).sum(1) + truth.flatten(1).sum(1)
        judged = total > 0
        return float((2 * overlap[judged] / total[judged]).mean()) if bool(judged.any()) else 0.0

    def state(self) -> dict[str, Any]:
        """Everything that training goes on from."""
        trained = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        return copy.deepcopy(
            {
                "trained": {n: p.detach() for n, p in trained.items()},
                "average": self.average,
                "optimiser": self.optimiser.state_dict(),
                "step": self.step,
            }
        )

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        for name, value in self.model.named_parameters():
            if name in state["trained"]:
                value.copy_(state["trained"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average, self.step = state["average"], state["step"]

    def averaged(self) -> Sam2Backbone:
        """A backbone with the averaged weights."""
        model = copy.deepcopy(self.model)
        model.load_state_dict(self.average, strict=False)
        merge_adapters(model)
        return Sam2Backbone(model.eval().requires_grad_(False), self.name)

    def tensors(self) -> dict[str, Tensor]:
        """The averaged weights of what was trained."""
        return {name: value.detach().cpu() for name, value in self.average.items()}

    def _draw(self, cases: list[int]) -> list[tuple[int, list[int]]]:
        """Query frames with the classes asked of each: a class drawn evenly, a frame that shows it."""
        source, drawn = self.source, []
        for _ in range(self.settings.frames):
            case = source.choice(cases)
            own = [n for n, c in enumerate(self.support.cases) if c == case]
            k = source.randrange(self.support.objects)
            showing = [n for n in own if bool(self.shows[n, k])]
            frame = source.choice(showing if showing and source.random() < _SHOWN_SHARE else own)
            shown = self.shows[frame].tolist()
            order = sorted(range(self.support.objects), key=lambda o: (o != k, not shown[o], source.random()))
            drawn.append((frame, sorted(order[: self.settings.classes])))
        return drawn

    def _loss(self, view: "_View", drawn: list[tuple[int, list[int]]], cases: list[int]) -> Tensor:
        """Mask loss of every (frame, class) asked for, all at once."""
        pixels, targets, rows, bank = [], [], [], []
        for row, (frame, objects) in enumerate(drawn):
            changed, labels = self._changed(view.support, frame)
            pixels.append(changed)
            for k in objects:
                targets.append(F.avg_pool2d((labels == k + 1).float(), 4))
                rows.append(row)
                bank.append(self._recalled(view, frame, k, _NOISE, cases))
        encoded = view.backbone.encode(torch.cat(pixels).to(view.backbone.device))
        features = _stacked([encoded[row] for row in rows])
        fused = view.backbone.attend(features, _recall(bank), len(rows))
        several = self.source.random() >= self.settings.single_mask_share
        candidates = view.backbone.candidates(fused, features, several=several)
        return candidate_loss(candidates, torch.cat(targets).to(view.backbone.device))

    def _masks(self, view: "_View", frame: int) -> Tensor:
        """Masks ``(K, S/4, S/4)`` bool of a frame as inference predicts them, from other cases."""
        objects = range(self.support.objects)
        features = view.backbone.encode(self.support.pixels[[frame]].to(view.backbone.device))[0]
        bank = [self._recalled(view, frame, k, 0.0, None) for k in objects]
        fused = view.backbone.attend(features, _recall(bank), len(objects))
        return view.backbone.decode(fused, features).logits[:, 0].cpu() > 0

    def _changed(self, support: SupportFrames, frame: int) -> tuple[Tensor, Tensor]:
        """An augmented frame and its labels."""
        seed = self.source.getrandbits(32)
        return self.settings.augmentation.draw(support.pixels[[frame]], support.labels[[frame]], seed)

    def _recalled(
        self, view: "_View", frame: int, k: int, noise: float, cases: list[int] | None
    ) -> list[MemoryEntry]:
        """Memory of similar frames that show a class: of other cases, else other frames of the same one.

        Args:
            view: the input size.
            frame: the query.
            k: the class.
            noise: standard deviation added to similarities.
            cases: cases in training; None stands for inference: all cases, frames as they are.
        """
        own = self.support.cases[frame]
        showing = [f for f in self.held if bool(self.shows[f, k])]
        others = [f for f in showing if self.support.cases[f] != own]
        others = [f for f in others if cases is None or self.support.cases[f] in cases]
        pool = others or [f for f in showing if f != frame] or showing
        likeness = cosine(self.pooled[[frame]], self.pooled[pool])[0]
        likeness = likeness + torch.tensor([self.source.gauss(0, noise) for _ in pool]).to(likeness.device)
        order = likeness.argsort(descending=True, stable=True).tolist()
        chosen = [pool[order[i % len(order)]] for i in range(self.settings.retrieved)]
        for f in chosen:
            if f not in view.entries:
                unchanged = cases is None or self.source.random() < 0.5
                shown = view.support.pixels[[f]], view.support.labels[[f]]
                view.remember(f, *(shown if unchanged else self._changed(view.support, f)))
        return [view.entries[f][k] for f in chosen]


class _View:
    """The support at one input size, with the memory of its frames."""

    def __init__(self, backbone: Sam2Backbone, support: SupportFrames) -> None:
        self.backbone, self.support = backbone, support
        self.entries: dict[int, dict[int, MemoryEntry]] = {}

    @torch.no_grad()
    def remember(self, frame: int, pixels: Tensor, labels: Tensor) -> None:
        """Put every class that a frame shows in memory."""
        device = self.backbone.device
        shown = self.support.masks(frame).flatten(1).any(dim=1).nonzero()[:, 0].tolist()
        features = self.backbone.encode(pixels.to(device))[0]
        masks = torch.cat([labels == k + 1 for k in shown]).to(device)
        entry = self.backbone.remember(features, self.backbone.adopt(features, masks))
        rows = torch.arange(len(shown), device=device).unsqueeze(1)
        self.entries[frame] = {k: entry.of(row) for k, row in zip(shown, rows, strict=True)}

    @torch.no_grad()
    def descriptors(self) -> Tensor:
        """Descriptors of all frames, ``(N, C)``."""
        parts = self.support.pixels.split(_CHUNK)
        return torch.stack([f.pooled for p in parts for f in self.backbone.encode(p.to(self.backbone.device))])


def _recall(bank: list[list[MemoryEntry]]) -> Any:
    """What rows attend to: entry i of every row makes one entry."""
    entries = tuple(MemoryEntry.across_objects(column) for column in zip(*bank, strict=True))
    return MemoryBank(entries).recall(0, 0, 1)


def _stacked(frames: list[Features]) -> Features:
    """Features of several frames as one record with a leading size."""
    levels = [torch.cat([f.levels[i] for f in frames]) for i in range(3)]
    return Features((levels[0], levels[1], levels[2]), frames[0].position)
