"""A copy of a backbone in training on the support."""

import copy
import random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unprompted.adaptation.objective import Drawn, Objective, Propagation, stacked
from unprompted.adaptation.processes import Processes
from unprompted.adaptation.settings import Adaptation
from unprompted.backbones.base import MemoryBank, MemoryEntry, Recall
from unprompted.backbones.lora import merge_adapters
from unprompted.backbones.sam2 import Sam2Backbone
from unprompted.backbones.weights import MIN_INPUT_SIZE
from unprompted.methods.base import SupportFrames
from unprompted.methods.similarity import Similarity
from unprompted.methods.support_memory import known, remembered, retrievable, spread

_CHANGED_SHARE = 0.5  # of support frames in memory are augmented
_AVERAGING = 0.98  # decay of the averaged weights, which are what is kept
_SHOWN_SHARE = 0.85  # of query frames are drawn among those that show the class
_WARMUP = 10
_CHUNK = 8


class Tuner:
    """A copy of the backbone in training, its optimiser and its averaged weights."""

    def __init__(
        self,
        backbone: Sam2Backbone,
        support: SupportFrames,
        settings: Adaptation,
        seed: int,
        objective: Objective | None = None,
    ) -> None:
        model = copy.deepcopy(backbone.model)
        self.backbone, self.settings = backbone, settings
        self.processes = Processes.of(settings.precision, backbone.device)
        self.source = random.Random(f"{seed}/{rank}" if (rank := self.processes.rank) else seed)
        self.objective = objective or Propagation(settings.single_mask_share)
        groups = self.objective.trained(model, settings, seed)
        self.model = model
        self.views = {backbone.input_size: _View(backbone.holding(model), support)}
        half = backbone.input_size // 2
        if settings.half_share > 0 and half >= MIN_INPUT_SIZE and half % 32 == 0:
            small = backbone.holding(model).sharing_weights_at(half)
            self.views[half] = _View(small, support.resized(half))
        self.shows = support.shows()
        self.support, self.step = support, 0
        self.known = known(support).tolist()
        self.held = [f for f in retrievable(support, settings.pool, empty=True) if any(self.known[f])]
        self.likeness = self.views[min(self.views)].likeness(self.held, self.objective.measure)
        self.optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate)
        self.average = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}

    def train(self, cases: list[int], spent: float) -> None:
        """One optimiser step on frames of the given cases; of several processes, each draws its own."""
        settings, accelerator = self.settings, self.processes.accelerator
        rate = settings.learning_rate * min(1.0, (self.step + 1) / _WARMUP) * (1 - 0.9 * min(1.0, spent))
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)
        small = self.source.random() < settings.half_share
        view = self.views[min(self.views) if small else max(self.views)]
        for oldest in list(view.entries)[: settings.forgotten]:
            del view.entries[oldest]  # made anew, by the present weights, when next asked for
        self.optimiser.zero_grad(set_to_none=True)
        with accelerator.autocast():
            loss = self._loss(view, self._draw(cases), cases)
        accelerator.backward(loss)
        self.processes.average_gradients(p for p in self.model.parameters() if p.requires_grad)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        decay = min(_AVERAGING, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for name, value in self.model.named_parameters():
                if value.requires_grad:
                    self.average[name].lerp_(value, 1 - decay)

    @torch.no_grad()
    def score(self, cases: list[int]) -> float:
        """Mean Dice over classes on evenly spaced frames of some cases, with the averaged weights."""
        own = [n for n, c in enumerate(self.support.cases) if c in cases and bool(self.shows[n].any())]
        overlap, total = torch.zeros(self.support.objects), torch.zeros(self.support.objects)
        view = _View(self.averaged(), self.support)
        for frame in spread(own, self.settings.judged):
            masks = self._masks(view, frame)
            truth = F.avg_pool2d(self.support.masks(frame).float()[:, None], 4)[:, 0] > 0.5
            overlap += (masks & truth).flatten(1).sum(1)
            total += masks.flatten(1).sum(1) + truth.flatten(1).sum(1)
        asked = [any(self.known[n][k] for n in own) for k in range(self.support.objects)]
        judged = (total > 0) & torch.tensor(asked)
        dice = float((2 * overlap[judged] / total[judged]).mean()) if bool(judged.any()) else 0.0
        return self.processes.agreed(dice)

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

    def forget(self) -> None:
        """Encode all support frames anew when they are next asked for."""
        for view in self.views.values():
            view.entries.clear()

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        for name, value in self.model.named_parameters():
            if name in state["trained"]:
                value.copy_(state["trained"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
        for name, value in state["average"].items():
            self.average[name].copy_(value)

    def averaged(self) -> Sam2Backbone:
        """A backbone with the averaged weights."""
        model = copy.deepcopy(self.model)
        model.load_state_dict(self.average, strict=False)
        merge_adapters(model)
        return self.backbone.holding(model.eval().requires_grad_(False))

    def tensors(self) -> dict[str, Tensor]:
        """The averaged weights of what was trained."""
        return {name: value.detach().cpu() for name, value in self.average.items()}

    def _draw(self, cases: list[int]) -> list[tuple[int, list[int]]]:
        """Query frames with the classes asked of each: a class drawn evenly, a frame that shows it."""
        source, drawn = self.source, []
        for _ in range(self.settings.frames):
            case = source.choice(cases)
            own = [n for n, c in enumerate(self.support.cases) if c == case]
            asked = [k for k, known in enumerate(self.known[own[0]]) if known]
            k = source.choice(asked)
            showing = [n for n in own if bool(self.shows[n, k])]
            frame = source.choice(showing if source.random() < _SHOWN_SHARE else own)
            shown = self.shows[frame].tolist()
            order = sorted(asked, key=lambda o: (o != k, not shown[o], source.random()))
            drawn.append((frame, sorted(order[: self.settings.classes])))
        return drawn

    def _loss(self, view: "_View", drawn: list[tuple[int, list[int]]], cases: list[int]) -> Tensor:
        """Mask loss of every (frame, class) asked for, all at once."""
        pixels, targets, rows, bank = [], [], [], []
        for row, (frame, objects) in enumerate(drawn):
            changed, labels = self._changed(view.support, frame)
            pixels.append(changed)
            targets += [F.avg_pool2d((labels == k + 1).float(), 4) for k in objects]
            rows += [row] * len(objects)
            bank += self._recalled(view, frame, objects, cases)
        encoded = view.backbone.encode(torch.cat(pixels).to(view.backbone.device))
        features = stacked([encoded[row] for row in rows])
        fused = view.backbone.attend(features, _recall(bank), len(rows))
        target = torch.cat(targets).to(view.backbone.device)
        return self.objective.loss(view.backbone, features, fused, target, Drawn(self.step, self.source))

    def _masks(self, view: "_View", frame: int) -> Tensor:
        """Masks ``(K, S/4, S/4)`` bool of a frame as inference predicts them, from other cases."""
        objects = list(range(self.support.objects))
        features = view.backbone.encode(self.support.pixels[[frame]].to(view.backbone.device))[0]
        recall = _recall(self._recalled(view, frame, objects, None))
        fused = view.backbone.attend(features, recall, len(objects))
        return self.objective.decode(view.backbone, features, fused).logits[:, 0].cpu() > 0

    def _changed(self, support: SupportFrames, frame: int) -> tuple[Tensor, Tensor]:
        """An augmented frame and its labels."""
        seed = self.source.getrandbits(32)
        return self.settings.augmentation.draw(support.pixels[[frame]], support.labels[[frame]], seed)

    def _recalled(
        self, view: "_View", frame: int, objects: list[int], cases: list[int] | None
    ) -> list[list[MemoryEntry]]:
        """For each object, memory of the support frames most like a frame, of other patients or cases if any.

        Args:
            view: the input size.
            frame: the query.
            objects: classes.
            cases: cases in training, whose frames are drawn and changed at times; None stands for
                inference: all cases, the most similar frames as they are.
        """
        groups, count = self.support.groups, self.settings.retrieved
        scores = dict(zip(self.held, self.likeness[frame].tolist(), strict=True))
        order = self.likeness[frame].argsort(descending=True, stable=True).tolist()
        ranked = [self.held[i] for i in order]
        allowed = [f for f in ranked if cases is None or self.support.cases[f] in cases]
        others = [f for f in allowed if groups[f] != groups[frame]]
        apart = [f for f in allowed if f != frame]
        pool = others or apart or allowed
        if cases is not None:
            pool = self.objective.draw(pool, scores, count, self.source)
        found = []
        for k in objects:
            places = (pool, apart, allowed, ranked)
            telling = next(told for place in places if (told := [f for f in place if self.known[f][k]]))
            chosen = [telling[i % len(telling)] for i in range(count)]
            found.append([self._remembered(view, f, cases is not None)[k] for f in chosen])
        return found

    @torch.no_grad()
    def _remembered(self, view: "_View", frame: int, in_training: bool) -> dict[int, MemoryEntry]:
        """Memory of every class that a support frame tells about, made when first asked for."""
        if frame not in view.entries:
            pixels, labels = view.support.pixels[[frame]], view.support.labels[[frame]]
            if in_training and self.source.random() < _CHANGED_SHARE:
                pixels, labels = self._changed(view.support, frame)
            device = view.backbone.device
            objects = [k for k in range(self.support.objects) if self.known[frame][k]]
            features = view.backbone.encode(pixels.to(device))[0]
            masks = torch.cat([labels == k + 1 for k in range(self.support.objects)])
            view.entries[frame] = remembered(view.backbone, features, masks, objects)
        return view.entries[frame]


class _View:
    """The support at one input size, with the memory of its frames."""

    def __init__(self, backbone: Sam2Backbone, support: SupportFrames) -> None:
        self.backbone, self.support = backbone, support
        self.entries: dict[int, dict[int, MemoryEntry]] = {}

    @torch.no_grad()
    def likeness(self, held: list[int], measure: Similarity) -> Tensor:
        """How alike each frame is to each of those held, ``(N, n)``."""
        parts = self.support.pixels.split(_CHUNK)
        encoded = (f for p in parts for f in self.backbone.encode(p.to(self.backbone.device)))
        described = torch.stack([measure.describe(features) for features in encoded])
        return torch.stack([measure.scores(one, described[held]) for one in described])


def _recall(bank: list[list[MemoryEntry]]) -> Recall:
    """What rows attend to: entry i of every row makes one entry."""
    entries = tuple(MemoryEntry.across_objects(column) for column in zip(*bank, strict=True))
    return MemoryBank(entries).recall(0, 0, 1)
