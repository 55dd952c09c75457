"""The façade every program uses: fit on a support, segment what is left."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from unprompted.adaptation.adapt import adapted_for
from unprompted.adaptation.settings import Adaptation
from unprompted.backbones.adapted import Adapted
from unprompted.backbones.base import Backbone
from unprompted.engine.gallery import Gallery
from unprompted.engine.limits import DEFAULT_LIMITS, Limits
from unprompted.engine.passes import Prepared, learn
from unprompted.engine.views import NO_VIEWS, Views, World
from unprompted.errors import EmptySupport, UsageError
from unprompted.geometry import reordering_between, slice_axis
from unprompted.images import LabelMap, Volume
from unprompted.intensity import Intensity
from unprompted.loading import load_backbone, make_method, method_name, settings_of
from unprompted.methods.base import Method, Progress
from unprompted.prediction import Prediction, Provenance
from unprompted.refinement.learn import UNREFINED, Refined, refine
from unprompted.refinement.settings import Refinement
from unprompted.registry import DEFAULT_BACKBONE, DEFAULT_METHOD
from unprompted.slices import release, room_for
from unprompted.support import Example, SupportSet
from unprompted.training.checkpoint import Checkpoint

OnFrame = Callable[[int, NDArray[np.integer[Any]], NDArray[np.float32]], bool | None]
_PACKAGES = ("unprompted", "torch", "transformers", "numpy")


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A method on a backbone, not yet fitted.

    Attributes:
        method: registry name or a configured method.
        backbone: what `load_backbone` takes, or a loaded backbone.
        views: test-time choices such as ``Views(flips=True)``; all off by default.
        adaptation: budget for fine-tuning the backbone on the support; none by default.
        refinement: of masks by a small network trained on the support; ``Refinement(steps=0)`` for none.
        adapters: folder of a fitted task whose trained weights are used as they are; nothing is trained then
            but what a method learns beside the backbone.
    """

    method: str | Method = DEFAULT_METHOD
    backbone: str | Backbone = DEFAULT_BACKBONE
    views: Views = NO_VIEWS
    adaptation: Adaptation = field(default_factory=Adaptation)
    refinement: Refinement = field(default_factory=Refinement)
    adapters: Path | None = None

    def fit(
        self,
        cases: Sequence[tuple[Volume, LabelMap]] | SupportSet,
        *,
        classes: dict[int, str] | None = None,
        axis: str | None = None,
        seed: int = 0,
        progress: Progress = lambda what, done, of: None,
        training: SupportSet | None = None,
        checkpoint: Path | None = None,
    ) -> "FittedSegmenter":
        """Learn from labelled cases.

        Args:
            cases: images with their labels, or a support set of single slices.
            classes: label value to name; None takes all classes of the labels.
            axis: slice axis "S", "A" or "R"; None takes the axis of largest spacing.
            seed: decides everything random.
            progress: called with what is being done and how far it is.
            training: more labelled slices, cut as the support, to train the backbone on; none go to memory.
            checkpoint: file that keeps unfinished training of the backbone; the same call goes on from it.

        Raises:
            EmptySupport: a class has no labelled example.
            GeometryMismatch: an image and its labels lie on different grids.
            UsageError: a view cannot be used with this support, or the backbone cannot be adapted.
        """
        method = make_method(self.method) if isinstance(self.method, str) else self.method
        backbone = load_backbone(self.backbone) if isinstance(self.backbone, str) else self.backbone
        support, axis = sliced_support(cases, classes, axis)
        self.views.check(support, axis)
        intensity = Intensity.decide(support)
        gallery = Gallery(support, intensity, axis, self.views)
        more = support if training is None else support.adding(*training.examples)
        adapted = self._adapted(method, backbone, replace(gallery, support=more), seed, progress, checkpoint)
        if training is not None and (adapted is None or self.adapters is not None):
            raise UsageError("nothing trains the backbone here; leave out the cases to train on (--train)")
        backbone = backbone if adapted is None else adapted.backbone
        learned = learn(method, backbone, gallery, seed, progress)
        refined = refine(method, backbone, gallery, learned, self.refinement, seed, progress)
        return FittedSegmenter.prepared(
            method, backbone, support, intensity, axis, learned, seed, self.views, adapted, refined
        )

    def _adapted(
        self,
        method: Method,
        backbone: Backbone,
        labelled: Gallery,
        seed: int,
        progress: Progress,
        checkpoint: Path | None,
    ) -> Adapted | None:
        """The backbone with the weights to be used, None where they are its own."""
        if self.adapters is None:
            return adapted_for(
                method,
                backbone,
                lambda: labelled.frames(World(), backbone.input_size),
                self.adaptation,
                seed,
                progress,
                Checkpoint(checkpoint),
            )
        if self.adaptation:
            raise UsageError("trained adapters are used as they are; leave --adapt or --adapters out")
        from unprompted.task import read_adapters

        return read_adapters(self.adapters, backbone)


def sliced_support(
    cases: Sequence[tuple[Volume, LabelMap]] | SupportSet, classes: dict[int, str] | None, axis: str | None
) -> tuple[SupportSet, str | None]:
    """Labelled cases as slices, with their slice axis; a support set stays as it is.

    Raises:
        EmptySupport: a class has no labelled example.
        GeometryMismatch: an image and its labels lie on different grids.
    """
    if isinstance(cases, SupportSet):
        return cases, axis
    axis = axis or common_axis([volume for volume, _ in cases])
    sliced = [(v.sliced_along(axis), m if v.axis == "t" else m.sliced_along(axis)) for v, m in cases]
    return SupportSet.from_cases(sliced, classes), axis


def common_axis(volumes: Sequence[Volume]) -> str | None:
    """The slice axis of a support: that of largest spacing in the first case that is a volume.

    Cases are taken by name, so that the order of files never matters.

    Raises:
        EmptySupport: there is no case.
    """
    if not volumes:
        raise EmptySupport("the support holds no case; give one to five labelled images")
    stacks = [v for v in sorted(volumes, key=lambda v: v.name) if v.axis == "z" and v.grid.shape[0] > 1]
    return slice_axis(stacks[0].grid) if stacks else None


@dataclass(frozen=True, eq=False)
class FittedSegmenter:
    """A fitted task: immutable, so that many callers may share one.

    Attributes:
        method: the method with its settings.
        backbone: the backbone.
        support: the labelled examples.
        intensity: how stored values become 0..1.
        axis: slice axis of volumes, None for pictures and videos.
        learned: what the method learned offline, name to tensor.
        seed: the seed of the fit.
        views: test-time choices.
        adapted: how the backbone was adapted to the support, None where it was not.
        refined: what redraws the masks.
        fitted: the method, prepared on the support.
    """

    method: Method
    backbone: Backbone
    support: SupportSet
    intensity: Intensity
    axis: str | None
    learned: dict[str, Tensor]
    seed: int
    views: Views
    adapted: Adapted | None
    refined: Refined
    fitted: Prepared

    @classmethod
    def prepared(
        cls,
        method: Method,
        backbone: Backbone,
        support: SupportSet,
        intensity: Intensity,
        axis: str | None,
        learned: dict[str, Tensor],
        seed: int,
        views: Views = NO_VIEWS,
        adapted: Adapted | None = None,
        refined: Refined = UNREFINED,
    ) -> "FittedSegmenter":
        """A task from its parts: puts the support into the method's memory."""
        gallery = Gallery(support, intensity, axis, views)
        fitted = Prepared.of(method, backbone, gallery, learned, refined.finish)
        return cls(method, backbone, support, intensity, axis, learned, seed, views, adapted, refined, fitted)

    def taught(self, *examples: Example) -> "FittedSegmenter":
        """The same task with more labelled slices in its memory, such as corrected ones; nothing is trained.

        Args:
            examples: labelled in full: a class that one does not show is absent there. One of the same
                case and slice as in the support takes its place.
        """
        if not examples:
            return self
        support = self.support.adding(*examples)
        numbers = {id(example): n for n, example in enumerate(support.examples)}
        kept = {n: numbers[id(e)] for n, e in enumerate(self.support.examples) if id(e) in numbers}
        gallery = replace(self.fitted.gallery, support=support)
        fitted = self.fitted.taught(gallery, self.learned, kept)
        return replace(self, support=support, fitted=fitted)

    def segment(
        self, volume: Volume, on_frame: OnFrame | None = None, limits: Limits | None = None
    ) -> Prediction:
        """Segment one case.

        Args:
            volume: the query, on any grid.
            on_frame: called once a frame, when its labels are final, with its position, its labels
                ``(H, W)`` and its quality ``(K,)``; returning False stops the sweep, and frames not
                reached stay background. Views that need several passes call it in the last one.
            limits: what may be held in memory at a time; None for the usual.

        Returns:
            Labels on the query's own grid.
        """
        begun = time.perf_counter()
        sliced = volume.sliced_along(self.axis)
        values = np.array([0, *self.support.classes])
        values = values.astype(np.uint8 if values.max() < 256 else np.uint16)
        depth, height, width = sliced.grid.shape
        labels = room_for((depth, height, width), values.dtype)
        confidence = room_for((depth, height, width), np.float16)
        quality = np.zeros((depth, len(values) - 1), np.float32)
        chosen = {}
        for found in self.fitted.segment(sliced, limits or DEFAULT_LIMITS):
            position = found.position
            labels[position] = values[found.number.cpu().numpy()]
            confidence[position] = found.probability.cpu().numpy()
            quality[position] = found.quality.float().cpu().numpy()
            if found.chosen:
                chosen[position] = found.chosen
            if on_frame and on_frame(position, labels[position], quality[position]) is False:
                break
            release(labels)
            release(confidence)
        back = reordering_between(sliced.grid, volume.grid)
        label_map = LabelMap(back.apply(labels), volume.grid, dict(self.support.classes))
        provenance = self._provenance(time.perf_counter() - begun)
        return Prediction(label_map, back.apply(confidence), quality, provenance, chosen)

    def _provenance(self, elapsed_s: float) -> Provenance:
        return Provenance(
            method=method_name(self.method),
            settings=settings_of(self.method),
            views=self.views.names,
            backbone=self.backbone.name,
            weights_sha256=self.backbone.digest,
            memory_pool=self.backbone.memory_pool,
            support_digest=self.support.digest,
            versions={package: metadata.version(package) for package in _PACKAGES},
            seed=self.seed,
            device=str(self.backbone.device),
            elapsed_s=round(elapsed_s, 3),
        )

    def save(self, folder: Path) -> None:
        """Write the task to a folder: JSON, images and labels, safetensors; no pickle."""
        from unprompted.task import save_task

        save_task(self, folder)

    @classmethod
    def load(
        cls,
        folder: Path,
        backbone: str | Backbone | None = None,
        device: str = "auto",
        adapters: Path | None = None,
    ) -> "FittedSegmenter":
        """Read a task written by `save`.

        Args:
            folder: the task.
            backbone: a loaded backbone or where to load it from; None takes the task's own name.
            device: where to run when the backbone is loaded here.
            adapters: folder of another task whose trained weights take the place of this one's.

        Raises:
            WeightsUnavailable: the backbone's weights differ from those the task was fitted with.
            UnreadableFile: the folder holds no task.
        """
        from unprompted.task import load_task

        return load_task(folder, backbone, device, adapters)
