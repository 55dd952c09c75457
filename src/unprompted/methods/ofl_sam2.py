"""OFL-SAM2: an online few-shot learner beside SAM2's memory attention, blended per pixel.

Paper: OFL-SAM2, arXiv:2512.24861 (no public code). What the paper leaves open follows its ancestor
LWL (Bhat et al. 2020); `docs/methods/ofl-sam2.md` says which is which.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unprompted.backbones.base import Backbone, Features, MemoryBank, MemoryEntry
from unprompted.errors import UnreadableFile, UsageError
from unprompted.methods.base import Place, Progress, Step, SupportFrames, confidence_score
from unprompted.methods.learner import Samples, apply_filters, scaled_inputs, steepest_descent
from unprompted.methods.ofl_blend import Blend
from unprompted.methods.ofl_training import Trainer
from unprompted.methods.similarity import Measure, Similarity, matched, similarity
from unprompted.methods.support_memory import SupportMemory, cosine, known, retrievable
from unprompted.prediction import Chosen
from unprompted.training.augment import Augmentation

_GRID = 16  # side to which encoder levels are averaged before frames are compared


@dataclass(frozen=True, eq=False)
class Fitted:
    """The support in memory, and what was learned.

    Attributes:
        memory: what frames attend to; a class that a frame does not show may be held as absent.
        shown: only frames that show a class, for the learner.
        blend: learned.
    """

    memory: SupportMemory
    shown: SupportMemory
    blend: Blend


@dataclass(frozen=True, eq=False)
class Learner:
    """The online branch of one sequence: what it has seen, and the filters fitted to that."""

    samples: Samples
    filters: Tensor


@dataclass(frozen=True, eq=False)
class State:
    """One sequence.

    Attributes:
        fitted: the prepared support.
        learner: the online branch, None where it is switched off.
        kept: the last accepted memory entry of each object.
        wanted: support frames in memory from the start, ``(n, K)``.
        scores: how alike each held support frame is to each frame, ``(T, held)``, where that decided.
    """

    fitted: Fitted
    learner: Learner | None
    kept: MemoryEntry
    wanted: Tensor
    scores: Tensor | None


@dataclass(frozen=True)
class OflSam2:
    """Settings of OFL-SAM2; the source of each default is in brackets.

    Attributes:
        retrieved: K, similar support frames a class that fill both memories [paper: 2; FATE-SAM: 3].
        retrieval: "frame" retrieves anew for the memory bank of every frame [ours], "sequence" once a
            case [paper], "none" takes evenly spaced support frames.
        similarity: what "similar" means for every frame: l1 or perceptual over encoder levels, cosine of
            pooled features, ssim, psnr [FATE-SAM's code: l1].
        candidates: "all" retrieves any support frame, and remembers a class it does not show as absent;
            "shown" retrieves, for each class, among those that show it [ours].
        kernel: side of the learner's filters in feature pixels [LWL: 3].
        fit_iterations: steepest-descent steps when fitting to the support [paper: 10].
        update_iterations: steps after each accepted frame [paper: 5].
        gamma: least confidence score of a frame that updates the memories [paper: 0.8].
        memory_rate: decay of older samples a frame [LWL: 0.1].
        support_floor: least share of support in the learner's loss [LWL: 0.25].
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

    retrieved: int = 3
    retrieval: Literal["frame", "sequence", "none"] = "frame"
    similarity: Measure = "l1"
    candidates: Literal["all", "shown"] = "all"
    kernel: int = 3
    fit_iterations: int = 10
    update_iterations: int = 5
    gamma: float = 0.8
    memory_rate: float = 0.1
    support_floor: float = 0.25
    epochs: int = 40
    steps_per_epoch: int = 2
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
    inputs: ClassVar[tuple[str, ...]] = ("volumes", "slices", "images", "videos")

    def __post_init__(self) -> None:
        if self.retrieved < 1:
            raise UsageError(f"ofl-sam2: retrieved is {self.retrieved}; give at least 1 support frame")
        if not 0 <= self.gamma <= 1:
            raise UsageError(f"ofl-sam2: gamma is {self.gamma}; give a score between 0 and 1")
        if self.retrieval not in ("frame", "sequence", "none"):
            raise UsageError(f"ofl-sam2: retrieval is {self.retrieval!r}; use frame, sequence or none")
        if self.candidates not in ("all", "shown"):
            raise UsageError(f"ofl-sam2: candidates is {self.candidates!r}; use all or shown")
        if self.kernel % 2 == 0:
            raise UsageError(f"ofl-sam2: kernel is {self.kernel}; give an odd number")
        similarity(self.similarity, _GRID)

    @property
    def looks_ahead(self) -> bool:
        """Whether the sweep starts at the frame most like the support."""
        return self.retrieval != "none"

    def train(
        self, backbone: Backbone, support: SupportFrames, seed: int, progress: Progress
    ) -> dict[str, Tensor]:
        """Train initial filters, ridge weight, lift and fusion on episodes of the support."""
        if not self.learner:
            return {}
        memory = self.memory_of(backbone, support)
        blend = self._blend(backbone, support, seed).to(backbone.device)
        Trainer(self, backbone, support, memory, blend).run(seed, progress)
        return {name: value.detach().cpu() for name, value in blend.state_dict().items()}

    def prepare(self, backbone: Backbone, support: SupportFrames, learned: dict[str, Tensor]) -> Fitted:
        """Put the support into memory and load what was learned."""
        blend = self._blend(backbone, support, seed=0)
        if learned:
            try:
                blend.load_state_dict(learned)
            except RuntimeError as error:
                raise UnreadableFile(
                    "what was learned does not fit this support and these settings; it belongs to another "
                    "task, so fit again"
                ) from error
        memory = self.memory_of(backbone, support)
        return Fitted(memory, _shown(memory, support), blend.to(backbone.device).requires_grad_(False))

    def teach(
        self, backbone: Backbone, fitted: Fitted, support: SupportFrames, kept: Mapping[int, int]
    ) -> Fitted:
        """Put new frames into the memory that frames attend to and the learner is fitted from."""
        everything = self.candidates == "all"
        memory = fitted.memory.extended(backbone, support, kept, everything, self.measure.describe)
        return Fitted(memory, _shown(memory, support), fitted.blend)

    def start(self, fitted: Fitted, pooled: Tensor) -> int:
        """The frame most like any support frame that shows a class."""
        if self.retrieval == "none":
            return 0
        shown = fitted.shown.shows.any(dim=1)
        return int(cosine(pooled, fitted.shown.pooled)[:, shown].max(dim=1).values.argmax())

    def begin(self, fitted: Fitted, pooled: Tensor, start: int) -> tuple[State, MemoryBank]:
        """Fill both memories with the most similar support and fit the learner to it."""
        memory, scores = fitted.shown, None
        if self.retrieval == "none":
            first = memory.evenly_spaced(self.retrieved)
        else:
            scores = cosine(pooled, memory.pooled)
            first = memory.most_similar(scores.max(dim=0).values, self.retrieved)
        entries = memory.compose(first)
        learner = self._learner(fitted, first, entries) if self.learner else None
        return State(fitted, learner, entries[0], first, scores), MemoryBank(entries)

    def step(
        self, backbone: Backbone, state: State, features: Features, memory: MemoryBank, at: Place
    ) -> Step:
        """Attend, map, blend, decode; learn from the frame where its confidence allows."""
        if self.retrieval == "frame":
            support, chosen = matched(state.fitted.memory, self.measure, features, self.retrieved)
            memory = replace(memory, support=support)
        else:
            chosen = self._chosen(state, at)
        recall = memory.recall(at.position, at.start, at.direction)
        fused = backbone.attend(features, recall, state.kept.pointer.shape[0])
        inputs = scaled_inputs(features.levels[2][0].float(), self.kernel)
        if state.learner:
            mapped = apply_filters(state.learner.filters, inputs)
            fused = self.blended(state.fitted.blend, fused, mapped)
        decoded = backbone.decode(fused, features)
        score = confidence_score(decoded)
        kept = (score >= self.gamma) & (decoded.logits > 0).flatten(1).any(dim=1)
        if not self.update or not bool(kept.any()):
            return Step(decoded, score, state, None, chosen)
        fresh = backbone.remember(features, decoded)
        entry = _where(kept, fresh, state.kept)
        learner = state.learner
        if learner:
            learner = self._updated(state.fitted.blend, learner, inputs, fresh, kept)
        return Step(decoded, score, replace(state, kept=entry, learner=learner), entry, chosen)

    def _chosen(self, state: State, at: Place) -> tuple[Chosen, ...]:
        """The support in memory for the whole sequence, with its scores for one frame."""
        if state.scores is None:
            return ()
        return state.fitted.shown.chosen(state.wanted, state.scores[at.position])

    def blended(self, blend: Blend, attended: Tensor, mapped: Tensor) -> Tensor:
        """Conditioned features for the decoder, ``(K, C, g, g)``."""
        if self.fusion:
            return blend.fuse(attended, mapped)
        return blend.constant_mix(attended, mapped)

    def _blend(self, backbone: Backbone, support: SupportFrames, seed: int) -> Blend:
        with torch.random.fork_rng(devices=[]):  # the caller's random state stays as it is
            torch.manual_seed(seed)
            return Blend(support.objects, backbone.channels, backbone.memory_width, self.kernel)

    @property
    def measure(self) -> Similarity:
        """How alike two frames are."""
        return similarity(self.similarity, _GRID)

    def memory_of(self, backbone: Backbone, support: SupportFrames) -> SupportMemory:
        """Every support frame that may be retrieved, encoded and remembered."""
        everything = self.candidates == "all"
        frames = retrievable(support, self.pool, empty=everything)
        held = known(support) if everything else support.shows()
        return SupportMemory.build(backbone, support, frames, held, self.measure.describe)

    def _learner(self, fitted: Fitted, frames: Tensor, entries: tuple[MemoryEntry, ...]) -> Learner:
        """The online branch fitted to the given support frames ``(n, K)``."""
        memory, blend = fitted.shown, fitted.blend
        side = next(iter(memory.coarse.values())).shape[-1]
        inputs = torch.stack(
            [torch.stack([memory.coarse[int(f)][0].float() for f in column]) for column in frames.T]
        )
        targets = torch.stack([blend.standardised(e.tokens, side) for e in entries], dim=1)
        samples = Samples.of_support(scaled_inputs(inputs, self.kernel), targets, self.kernel)
        return Learner(samples, self._refined(blend.filters, samples, blend.ridge, self.fit_iterations))

    def _refined(self, filters: Tensor, samples: Samples, ridge: Tensor, iterations: int) -> Tensor:
        return steepest_descent(filters, *samples.normal_equations(self.support_floor), ridge, iterations)

    def _updated(
        self, blend: Blend, learner: Learner, inputs: Tensor, fresh: MemoryEntry, kept: Tensor
    ) -> Learner:
        """The online branch after one more frame, for the objects that keep it."""
        targets = blend.standardised(fresh.tokens, inputs.shape[-1])
        samples = learner.samples.adding(inputs, targets, kept, self.memory_rate)
        chosen = kept.nonzero()[:, 0]
        filters = learner.filters.clone()
        filters[chosen] = self._refined(
            learner.filters[chosen], samples.of(chosen), blend.ridge, self.update_iterations
        )
        return Learner(samples, filters)


def _shown(memory: SupportMemory, support: SupportFrames) -> SupportMemory:
    return memory.restricted(support.shows()[list(memory.frames)])


def _where(kept: Tensor, fresh: MemoryEntry, previous: MemoryEntry) -> MemoryEntry:
    """The fresh entry for objects that keep it, the last accepted one for the others."""
    return MemoryEntry(
        torch.where(kept[None, :, None], fresh.tokens, previous.tokens),
        torch.where(kept[:, None], fresh.pointer, previous.pointer),
    )
