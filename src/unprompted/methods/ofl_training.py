"""Offline training of OFL-SAM2 on the support itself."""

import copy
import random
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unprompted.backbones.base import Backbone, Decoded, Features, MemoryBank, MemoryEntry, Recall
from unprompted.methods.base import Progress, SupportFrames
from unprompted.methods.learner import Samples, apply_filters, scaled_inputs, steepest_descent
from unprompted.methods.ofl_blend import Blend
from unprompted.methods.support_memory import SupportMemory, cosine
from unprompted.training.losses import hard_iou, mask_loss

if TYPE_CHECKING:
    from unprompted.methods.ofl_sam2 import OflSam2

_PRESENCE_WEIGHT = 0.5
_QUALITY_WEIGHT = 0.2  # the frozen IoU head is read through features it was not trained on
_TARGET_WEIGHT = 0.1  # of the learner's distance from the true memory features
_AVERAGING = 0.95  # decay of the averaged weights
_CHECKS = 2  # times that training is compared with the best so far
_VALIDATION_SEQUENCES = 6
_LIFT_PAIRS = 32  # support frames that the lift is fitted to


@dataclass(frozen=True, eq=False)
class Trainer:
    """Offline training: some labelled frames play query, frames of other cases play support."""

    method: "OflSam2"
    backbone: Backbone
    support: SupportFrames
    memory: SupportMemory
    blend: Blend
    without: dict[int, Tensor] = field(default_factory=dict)  # what leaving a case out adds to the filters
    judged: dict[int, Features] = field(default_factory=dict)  # frames judged on, which never change

    @cached_property
    def shown(self) -> SupportMemory:
        """Memory of frames that show a class, for the learner."""
        return self.memory.restricted(self.support.shows()[list(self.memory.frames)])

    def run(self, seed: int, progress: Progress) -> None:
        """Train the blend in place; what is kept did best on unchanged sequences of the support.

        Weights are averaged over steps. The closed-form start takes part in the choice, and so does
        memory attention alone, so that neither training nor the learner makes things worse by this
        measure. With three cases or more, the last one is only judged on, never trained on.
        """
        method = self.method
        self.start(random.Random(seed))
        total = method.epochs * method.steps_per_epoch
        optimiser = torch.optim.AdamW(self.blend.parameters(), lr=method.learning_rate, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, total))
        average = copy.deepcopy(self.blend)
        best, lowest = copy.deepcopy(self.blend.state_dict()), self.validation_loss() if total else 0.0
        if total and method.fusion:
            ignoring = copy.deepcopy(self.blend)
            ignoring.ignore_learner()
            found = replace(self, blend=ignoring).validation_loss()
            if found < lowest:
                best, lowest = copy.deepcopy(ignoring.state_dict()), found
        source = random.Random(seed)
        for step in range(total):
            optimiser.zero_grad(set_to_none=True)
            self.sequence_loss(source).backward()
            nn.utils.clip_grad_norm_(self.blend.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                for mean, value in zip(average.parameters(), self.blend.parameters(), strict=True):
                    mean.lerp_(value, 1 - min(_AVERAGING, (step + 1) / (step + 10)))
            progress("training", step + 1, total)
            if (step + 1) % max(1, total // _CHECKS) == 0:
                found = replace(self, blend=average).validation_loss()
                if found < lowest:
                    best, lowest = copy.deepcopy(average.state_dict()), found
        self.blend.load_state_dict(best)

    @torch.no_grad()
    def start(self, source: random.Random) -> None:
        """Closed-form start of everything but the fusion: targets, filters, lift."""
        self.blend.start_targets(self.shown)
        self.without.update(self.blend.start_filters(self.shown, self.support.cases))
        pairs = list(self.shown.entries)
        targets, attended = [], []
        for frame, k in source.sample(pairs, min(len(pairs), _LIFT_PAIRS)):
            features = self.backbone.encode(self.support.pixels[[frame]].to(self.backbone.device))[0]
            chosen = self._chosen_support([frame], [k], source)
            entries = tuple(self.memory.entries[int(row[0]), k] for row in chosen)
            attended.append(self.backbone.attend(features, MemoryBank(entries).recall(0, 0, 1), 1).float())
            side = attended[-1].shape[-1]
            targets.append(self.blend.standardised(self.memory.entries[frame, k].tokens, side))
        self.blend.start_lift(torch.cat(targets), torch.cat(attended))

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Mean loss over fixed sequences without augmentation, of the last case or, of two, of both.

        The filters have seen every case; for a fair answer each sequence is segmented with filters that
        start as if its case had not been there.
        """
        seeds = range(max(_VALIDATION_SEQUENCES, len(set(self.support.cases))))
        losses = [float(self.sequence_loss(random.Random(seed), judged=True)) for seed in seeds]
        return sum(losses) / len(losses)

    def sequence_loss(self, source: random.Random, judged: bool = False) -> Tensor:
        """Loss of one random query sequence, predicted frame after frame.

        Args:
            source: draws it.
            judged: take a case to judge on, unchanged, and start from filters that have not seen it.
        """
        frames = self._query(source, judged)
        objects = self._objects(frames, source)
        chosen = self._chosen_support(frames, objects, source)
        labels = self.support.labels[frames]
        if judged:
            encoded = [self._unchanged(frame) for frame in frames]
        else:
            pixels = self.support.pixels[frames]
            pixels, labels = self.method.augmentation.draw(pixels, labels, source.getrandbits(32))
            with torch.no_grad():
                encoded = self.backbone.encode(pixels.to(self.backbone.device))
        entries = tuple(
            MemoryEntry.across_objects(
                self.memory.entries[int(f), k] for f, k in zip(row, objects, strict=True)
            )
            for row in chosen
        )
        first = self.blend.filters[objects]
        if judged:
            first = first + self.without[self.support.cases[frames[0]]][objects]
        filters = self._fitted_filters(chosen, entries, first)
        bank, losses = MemoryBank(entries), []
        for t, features in enumerate(encoded):
            masks = torch.stack([labels[t] == k + 1 for k in objects]).to(self.backbone.device)
            if self.method.retrieval == "frame":
                bank = replace(bank, support=self._alike(features, self.support.cases[frames[0]], objects))
            decoded, loss = self._frame_loss(features, bank.recall(t, 0, 1), filters, masks)
            losses.append(loss)
            with torch.no_grad():
                bank = bank.remembering(t, self.backbone.remember(features, decoded.detached()))
        return torch.stack(losses).mean()

    @torch.no_grad()
    def _unchanged(self, frame: int) -> Features:
        """Features of a support frame as it is, encoded once."""
        if frame not in self.judged:
            pixels = self.support.pixels[[frame]].to(self.backbone.device)
            self.judged[frame] = self.backbone.encode(pixels)[0]
        return self.judged[frame]

    def _alike(self, features: Features, case: int, objects: list[int]) -> tuple[MemoryEntry, ...]:
        """The support most like a frame, of other cases where those hold the object."""
        measure = self.method.measure
        scores = measure.scores(measure.describe(features), self.memory.described)
        own = torch.tensor([self.support.cases[f] == case for f in self.memory.frames], device=scores.device)
        columns = []
        for k in objects:
            held = self.memory.shows[:, k].to(scores.device)
            left_out = own if bool((held & ~own).any()) else torch.zeros_like(own)
            ranked = scores.masked_fill(left_out, -torch.inf)
            columns.append(self.memory.most_similar(ranked, self.method.retrieved, [k]))
        return tuple(
            MemoryEntry.across_objects(
                self.memory.entries[int(f), k] for f, k in zip(row, objects, strict=True)
            )
            for row in torch.cat(columns, dim=1)
        )

    def _query(self, source: random.Random, judged: bool) -> list[int]:
        """Consecutive labelled frames of one case, in either direction."""
        cases = sorted(set(self.support.cases))
        if len(cases) > 2:
            cases = cases[-1:] if judged else cases[:-1]
        case = source.choice(cases)
        own = [n for n, c in enumerate(self.support.cases) if c == case]
        length = min(self.method.sequence, len(own))
        first = source.randrange(len(own) - length + 1)
        frames = own[first : first + length]
        return frames if source.random() < 0.5 else frames[::-1]

    def _objects(self, frames: list[int], source: random.Random) -> list[int]:
        """Classes to train on: those the query shows first, others fill up to the limit."""
        shown = torch.stack([self.support.masks(f).flatten(1).any(dim=1) for f in frames]).any(dim=0)
        order = sorted(range(self.support.objects), key=lambda k: (not bool(shown[k]), source.random()))
        return sorted(order[: self.method.train_classes])

    def _chosen_support(self, frames: list[int], objects: list[int], source: random.Random) -> Tensor:
        """Support frames ``(n, K)``: similar ones of other cases, or else other frames of the case."""
        held = self.memory.frames
        query = self.memory.pooled[[held.index(f) for f in frames if f in held] or [0]]
        scores = cosine(query, self.memory.pooled).max(dim=0).values
        noise = torch.tensor([source.gauss(0, 0.1) for _ in held], device=scores.device)
        columns = []
        for k in objects:
            others = [self.support.cases[f] != self.support.cases[frames[0]] for f in held]
            apart = [f not in frames for f in held]
            shows = self.shown.shows[:, k].tolist()
            allowed = next(
                keep
                for rule in (others, apart, [True] * len(held))
                if any(keep := [a and s for a, s in zip(rule, shows, strict=True)])
            )
            left_out = torch.tensor([not a for a in allowed], device=scores.device)
            ranked = (scores + noise).masked_fill(left_out, -torch.inf)
            columns.append(self.shown.most_similar(ranked, self.method.retrieved, [k]))
        return torch.cat(columns, dim=1)

    def _fitted_filters(self, chosen: Tensor, entries: tuple[MemoryEntry, ...], first: Tensor) -> Tensor:
        """Filters after the first fit, from the `first` ones; differentiable in all that is learned."""
        inputs = torch.stack(
            [torch.stack([self.memory.coarse[int(f)][0].float() for f in column]) for column in chosen.T]
        )
        targets = torch.stack([self.blend.standardised(e.tokens, inputs.shape[-1]) for e in entries], dim=1)
        kernel = self.method.kernel
        samples = Samples.of_support(scaled_inputs(inputs, kernel), targets, kernel)
        gram, cross = samples.normal_equations(self.method.support_floor)
        return steepest_descent(first, gram, cross, self.blend.ridge, self.method.fit_iterations)

    def _frame_loss(
        self, features: Features, recall: Recall, filters: Tensor, masks: Tensor
    ) -> tuple[Decoded, Tensor]:
        """Mask loss, presence, predicted IoU, and the learner's distance from true memory features."""
        with torch.no_grad():
            attended = self.backbone.attend(features, recall, len(masks))
            truth = self.backbone.remember(features, self.backbone.adopt(features, masks))
        inputs = scaled_inputs(features.levels[2][0].float(), self.method.kernel)
        mapped = apply_filters(filters, inputs)
        decoded = self.backbone.decode(self.method.blended(self.blend, attended, mapped), features)
        target = F.avg_pool2d(masks[:, None].float(), 4)
        wanted = self.blend.standardised(truth.tokens, mapped.shape[-1])
        shown = masks.flatten(1).any(dim=1, keepdim=True).float()
        presence = F.binary_cross_entropy_with_logits(decoded.presence.float(), shown)
        overlap = hard_iou(decoded.raw.detach().float(), target)[:, 0]
        quality = F.smooth_l1_loss(decoded.quality.float(), overlap, beta=0.1)
        loss = mask_loss(decoded.raw.float(), target).mean()
        loss = loss + _PRESENCE_WEIGHT * presence + _QUALITY_WEIGHT * quality
        return decoded, loss + _TARGET_WEIGHT * F.mse_loss(mapped, wanted)
