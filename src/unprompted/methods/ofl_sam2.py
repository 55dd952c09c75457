"""OFL-SAM2: an online few-shot learner beside SAM2's memory attention, blended per pixel.

Paper: OFL-SAM2, arXiv:2512.24861 (no public code). What the paper leaves open follows its ancestor
LWL (Bhat et al. 2020); `docs/methods/ofl-sam2.md` says which is which.
"""

import random
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unprompted.backbones.base import Backbone, Decoded, Features, MemoryBank, MemoryEntry
from unprompted.errors import UsageError
from unprompted.methods.base import Place, Progress, Step, SupportFrames, confidence_score
from unprompted.methods.learner import Samples, apply_filters, scaled_inputs, steepest_descent
from unprompted.methods.support_memory import SupportMemory, cosine, spread
from unprompted.training.augment import Augmentation
from unprompted.training.losses import mask_loss

_FUSION_WIDTH = 128
_FUSION_BIAS = 2.0  # sigmoid(2) = 0.88: training starts near plain SAM2


class Blend(nn.Module):
    """What is learned offline: initial filters, ridge weight, lift and fusion.

    Args:
        objects: K.
        channels: C of the features.
        width: M of the memory tokens.
        kernel: side of the filters.
    """

    def __init__(self, objects: int, channels: int, width: int, kernel: int) -> None:
        super().__init__()
        self.filters = nn.Parameter(torch.zeros(objects, width, channels, kernel, kernel))
        self.ridge = nn.Parameter(torch.tensor(0.01))  # LWL's initial value
        self.lift = nn.Conv2d(width, channels, 1)
        self.inner = nn.Conv2d(2 * channels, _FUSION_WIDTH, 3, padding=1)
        self.outer = nn.Conv2d(_FUSION_WIDTH, channels, 3, padding=1)
        nn.init.zeros_(self.outer.weight)
        nn.init.constant_(self.outer.bias, _FUSION_BIAS)
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))

    def standardised(self, tokens: Tensor, side: int) -> Tensor:
        """Memory tokens ``(HW, K, M)`` as targets ``(K, M, g, g)`` with support statistics."""
        scaled = (tokens.float() - self.centre) / self.spread
        return scaled.permute(1, 2, 0).unflatten(2, (side, side))

    def fuse(self, attended: Tensor, mapped: Tensor) -> Tensor:
        """``E_tar = W * E1 + (1 - W) * E2`` with W per pixel and channel, all ``(K, C, g, g)``."""
        target = self.lift(mapped)
        weight = self.outer(F.relu(self.inner(torch.cat([attended, target], dim=1)))).sigmoid()
        return weight * attended + (1 - weight) * target


@dataclass(frozen=True, eq=False)
class Fitted:
    """The support in memory, and what was learned."""

    memory: SupportMemory
    blend: Blend


@dataclass(frozen=True, eq=False)
class State:
    """One sequence: its learner, and for every frame the support frames most like it."""

    fitted: Fitted
    samples: Samples
    filters: Tensor
    kept: MemoryEntry
    wanted: Tensor  # (T or 1, n, K) frame numbers


@dataclass(frozen=True)
class OflSam2:
    """Settings of OFL-SAM2; the source of each default is in brackets.

    Attributes:
        retrieved: K, similar support frames a class that fill both memories [paper: 2].
        retrieval: "frame" retrieves anew for the memory bank of every frame [ours], "sequence" once a
            case [paper], "none" takes evenly spaced support frames.
        kernel: side of the learner's filters in feature pixels [LWL: 3].
        fit_iterations: steepest-descent steps when fitting to the support [paper: 10].
        update_iterations: steps after each accepted frame [paper: 5].
        gamma: least confidence score of a frame that updates the memories [paper: 0.8].
        memory_rate: decay of older samples a frame [LWL: 0.1].
        support_floor: least share of support in the learner's loss [LWL: 0.25].
        capacity: samples the learner holds [LWL: 32; ours is smaller for the sake of CPUs].
        epochs: passes of offline training over the cases [paper: 40].
        steps_per_epoch: training sequences an epoch [ours; paper: all of the training set].
        learning_rate: of AdamW [paper: 1e-3].
        sequence: query frames of a training sequence [ours].
        train_classes: most classes trained at once, to bound the cost [ours].
        pool: most support frames held for retrieval a class [ours].
        learner: off removes the online branch: plain memory attention, nothing trained.
        fusion: off replaces the learned weight by the constant it starts from.
        update: off freezes both memories after the support.
        augmentation: change of the query sequences in training [ours].
    """

    retrieved: int = 2
    retrieval: Literal["frame", "sequence", "none"] = "frame"
    kernel: int = 3
    fit_iterations: int = 10
    update_iterations: int = 5
    gamma: float = 0.8
    memory_rate: float = 0.1
    support_floor: float = 0.25
    capacity: int = 8
    epochs: int = 40
    steps_per_epoch: int = 3
    learning_rate: float = 1e-3
    sequence: int = 3
    train_classes: int = 4
    pool: int = 64
    learner: bool = True
    fusion: bool = True
    update: bool = True
    augmentation: Augmentation = field(default_factory=Augmentation)

    paper: ClassVar[str] = "OFL-SAM2, arXiv:2512.24861"
    needs_training: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.retrieved < 1 or self.capacity < self.retrieved + 1:
            raise UsageError("ofl-sam2: retrieved is at least 1, and capacity larger than retrieved")
        if not 0 <= self.gamma <= 1:
            raise UsageError(f"ofl-sam2: gamma is {self.gamma}; give a score between 0 and 1")
        if self.retrieval not in ("frame", "sequence", "none"):
            raise UsageError(f"ofl-sam2: retrieval is {self.retrieval!r}; use frame, sequence or none")
        if self.kernel % 2 == 0:
            raise UsageError(f"ofl-sam2: kernel is {self.kernel}; give an odd number")

    def train(
        self, backbone: Backbone, support: SupportFrames, seed: int, progress: Progress
    ) -> dict[str, Tensor]:
        """Train initial filters, ridge weight, lift and fusion on episodes of the support."""
        if not self.learner:
            return {}
        memory = self._memory(backbone, support)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            blend = Blend(support.objects, backbone.channels, backbone.memory_width, self.kernel)
        blend = self._initialised(blend.to(backbone.device), memory)
        Trainer(self, backbone, support, memory, blend).run(seed, progress)
        return {name: value.detach().cpu() for name, value in blend.state_dict().items()}

    def prepare(self, backbone: Backbone, support: SupportFrames, learned: dict[str, Tensor]) -> Fitted:
        """Put the support into memory and load what was learned."""
        blend = Blend(support.objects, backbone.channels, backbone.memory_width, self.kernel)
        if learned:
            blend.load_state_dict(learned)
        return Fitted(self._memory(backbone, support), blend.to(backbone.device).requires_grad_(False))

    def start(self, fitted: Fitted, pooled: Tensor) -> int:
        """The frame most like any support frame that shows a class."""
        if self.retrieval == "none":
            return 0
        shown = fitted.memory.shows.any(dim=1)
        return int(cosine(pooled, fitted.memory.pooled)[:, shown].max(dim=1).values.argmax())

    def begin(self, fitted: Fitted, pooled: Tensor, start: int) -> tuple[State, MemoryBank]:
        """Fill both memories with the most similar support and fit the learner to it."""
        memory = fitted.memory
        if self.retrieval == "none":
            scores = torch.zeros(1, len(memory.frames))
        else:
            scores = cosine(pooled, memory.pooled)
        first = memory.most_similar(scores.max(dim=0).values, self.retrieved)
        wanted = first.unsqueeze(0)
        if self.retrieval == "frame":
            wanted = torch.stack([memory.most_similar(row, self.retrieved) for row in scores])
        entries = memory.compose(first)
        samples, filters = self._learner(fitted, first, entries)
        return State(fitted, samples, filters, entries[0], wanted), MemoryBank(entries)

    def step(
        self, backbone: Backbone, state: State, features: Features, memory: MemoryBank, at: Place
    ) -> Step:
        """Attend, map, blend, decode; learn from the frame where its confidence allows."""
        if self.retrieval == "frame":
            memory = replace(memory, support=state.fitted.memory.compose(state.wanted[at.position]))
        recall = memory.recall(at.position, at.start, at.direction)
        fused = backbone.attend(features, recall, state.kept.pointer.shape[0])
        inputs = scaled_inputs(features.levels[2], self.kernel)
        if self.learner:
            mapped = apply_filters(state.filters, inputs.expand(len(state.filters), 1, -1, -1, -1))[:, 0]
            fused = self.blended(state.fitted.blend, fused, mapped)
        decoded = backbone.decode(fused, features)
        score = confidence_score(decoded)
        kept = (score >= self.gamma) & (decoded.logits > 0).flatten(1).any(dim=1)
        if not self.update or not bool(kept.any()):
            return Step(decoded, score, state, None)
        fresh = backbone.remember(features, decoded)
        entry = _where(kept, fresh, state.kept)
        state = replace(state, kept=entry)
        if self.learner:
            state = self._updated(state, inputs[0], fresh, kept)
        return Step(decoded, score, state, entry)

    def blended(self, blend: Blend, attended: Tensor, mapped: Tensor) -> Tensor:
        """Conditioned features for the decoder, ``(K, C, g, g)``."""
        if self.fusion:
            return blend.fuse(attended, mapped)
        weight = torch.tensor(_FUSION_BIAS).sigmoid()
        return weight * attended + (1 - weight) * blend.lift(mapped)

    def _memory(self, backbone: Backbone, support: SupportFrames) -> SupportMemory:
        shows = support.shows()
        per_class = (spread(shows[:, k].nonzero()[:, 0].tolist(), self.pool) for k in range(support.objects))
        return SupportMemory.build(backbone, support, sorted({f for frames in per_class for f in frames}))

    def _initialised(self, blend: Blend, memory: SupportMemory) -> Blend:
        """Support statistics of the targets, and a lift that returns from targets to features."""
        tokens = torch.stack([e.tokens[:, 0].float() for e in memory.entries.values()])  # (n, HW, M)
        blend.centre.copy_(tokens.mean(dim=(0, 1)))
        blend.spread.copy_(tokens.std(dim=(0, 1)).clamp(min=1e-3))
        targets = ((tokens - blend.centre) / blend.spread).flatten(0, 1)
        coarse = torch.cat([memory.coarse[f] for f, _ in memory.entries]).float()
        features = coarse.permute(0, 2, 3, 1).flatten(0, 2)  # (n HW, C)
        design = torch.cat([targets, torch.ones_like(targets[:, :1])], dim=1)
        gram = design.T @ design + 1e-3 * len(design) * torch.eye(design.shape[1], device=design.device)
        solution = torch.linalg.solve(gram, design.T @ features)  # least squares, slightly damped
        with torch.no_grad():
            blend.lift.weight.copy_(solution[:-1].T[:, :, None, None])
            blend.lift.bias.copy_(solution[-1])
        return blend

    def _learner(
        self, fitted: Fitted, frames: Tensor, entries: tuple[MemoryEntry, ...]
    ) -> tuple[Samples, Tensor]:
        """Samples of the given support frames ``(n, K)`` and filters fitted to them."""
        memory, blend = fitted.memory, fitted.blend
        side = next(iter(memory.coarse.values())).shape[-1]
        inputs = torch.stack(
            [torch.stack([memory.coarse[int(f)][0].float() for f in column]) for column in frames.T]
        )
        targets = torch.stack([blend.standardised(e.tokens, side) for e in entries], dim=1)
        samples = Samples.of_support(scaled_inputs(inputs, self.kernel), targets)
        if not self.learner:
            return samples, blend.filters
        return samples, steepest_descent(blend.filters, samples, blend.ridge, self.fit_iterations)

    def _updated(self, state: State, inputs: Tensor, fresh: MemoryEntry, kept: Tensor) -> State:
        """The learner after one more frame, for the objects that keep it."""
        targets = state.fitted.blend.standardised(fresh.tokens, inputs.shape[-1])
        samples = state.samples.adding(
            inputs.float(), targets, kept, self.memory_rate, self.support_floor, self.capacity
        )
        chosen = kept.nonzero()[:, 0]
        filters = state.filters.clone()
        filters[chosen] = steepest_descent(
            state.filters[chosen], samples.of(chosen), state.fitted.blend.ridge, self.update_iterations
        )
        return replace(state, samples=samples, filters=filters)


def _where(kept: Tensor, fresh: MemoryEntry, previous: MemoryEntry) -> MemoryEntry:
    """The fresh entry for objects that keep it, the last accepted one for the others."""
    return MemoryEntry(
        torch.where(kept[None, :, None], fresh.tokens, previous.tokens),
        torch.where(kept[:, None], fresh.pointer, previous.pointer),
    )


@dataclass(frozen=True, eq=False)
class Trainer:
    """Offline training: some labelled frames play query, frames of other cases play support."""

    method: OflSam2
    backbone: Backbone
    support: SupportFrames
    memory: SupportMemory
    blend: Blend

    def run(self, seed: int, progress: Progress) -> None:
        """Train the blend in place; the learning rate falls along one cosine."""
        method = self.method
        total = method.epochs * method.steps_per_epoch
        optimiser = torch.optim.AdamW(self.blend.parameters(), lr=method.learning_rate, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, total))
        source = random.Random(seed)
        for step in range(total):
            optimiser.zero_grad(set_to_none=True)
            self.sequence_loss(source).backward()
            nn.utils.clip_grad_norm_(self.blend.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            progress("training", step + 1, total)

    def sequence_loss(self, source: random.Random) -> Tensor:
        """Loss of one random query sequence, predicted frame after frame."""
        frames = self._query(source)
        objects = self._objects(frames, source)
        chosen = self._chosen_support(frames, objects, source)
        pixels, labels = self.method.augmentation.draw(
            self.support.pixels[frames], self.support.labels[frames], source.getrandbits(32)
        )
        with torch.no_grad():
            encoded = self.backbone.encode(pixels.to(self.backbone.device))
        entries = tuple(
            MemoryEntry.across_objects(self.memory.entries[int(f), k] for f, k in zip(row, objects, strict=True))
            for row in chosen
        )
        filters = self._fitted_filters(chosen, entries, objects)
        bank, losses = MemoryBank(entries), []
        for t, features in enumerate(encoded):
            masks = torch.stack([labels[t] == k + 1 for k in objects]).to(self.backbone.device)
            decoded, loss = self._frame_loss(features, bank.recall(t, 0, 1), filters, masks)
            losses.append(loss)
            with torch.no_grad():
                bank = bank.remembering(t, self.backbone.remember(features, decoded.detached()))
        return torch.stack(losses).mean()

    def _query(self, source: random.Random) -> list[int]:
        """Consecutive labelled frames of one case, in either direction."""
        case = source.choice(sorted(set(self.support.cases)))
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
            shows = self.memory.shows[:, k].tolist()
            allowed = next(
                keep
                for rule in (others, apart, [True] * len(held))
                if any(keep := [a and s for a, s in zip(rule, shows, strict=True)])
            )
            left_out = torch.tensor([not a for a in allowed], device=scores.device)
            ranked = (scores + noise).masked_fill(left_out, -torch.inf)
            columns.append(self.memory.most_similar(ranked, self.method.retrieved, [k]))
        return torch.cat(columns, dim=1)

    def _fitted_filters(self, chosen: Tensor, entries: tuple[MemoryEntry, ...], objects: list[int]) -> Tensor:
        """Filters of the chosen objects after the first fit, differentiable in all that is learned."""
        inputs = torch.stack(
            [torch.stack([self.memory.coarse[int(f)][0].float() for f in column]) for column in chosen.T]
        )
        targets = torch.stack([self.blend.standardised(e.tokens, inputs.shape[-1]) for e in entries], dim=1)
        samples = Samples.of_support(scaled_inputs(inputs, self.method.kernel), targets)
        return steepest_descent(
            self.blend.filters[objects], samples, self.blend.ridge, self.method.fit_iterations
        )

    def _frame_loss(
        self, features: Features, recall: object, filters: Tensor, masks: Tensor
    ) -> tuple[Decoded, Tensor]:
        """Mask loss, presence, and the learner's distance from the true memory features."""
        with torch.no_grad():
            attended = self.backbone.attend(features, recall, len(masks))
            truth = self.backbone.remember(features, self.backbone.adopt(features, masks))
        inputs = scaled_inputs(features.levels[2].float(), self.method.kernel)
        mapped = apply_filters(filters, inputs.expand(len(filters), 1, -1, -1, -1))[:, 0]
        decoded = self.backbone.decode(self.method.blended(self.blend, attended, mapped), features)
        target = F.avg_pool2d(masks[:, None].float(), 4)
        wanted = self.blend.standardised(truth.tokens, mapped.shape[-1])
        shown = masks.flatten(1).any(dim=1, keepdim=True).float()
        presence = F.binary_cross_entropy_with_logits(decoded.presence.float(), shown)
        loss = mask_loss(decoded.raw.float(), target).mean() + 0.5 * presence
        return decoded, loss + 0.1 * F.mse_loss(mapped, wanted)
