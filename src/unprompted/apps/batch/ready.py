"""A model that is loaded, with the support it learns from: from labelled cases, or from a fitted task."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unprompted import __version__
from unprompted.apps.batch.choices import ModelChoice, SupportChoice, Watcher
from unprompted.apps.batch.estimate import best_method
from unprompted.apps.batch.models import backbone_of, described, refinement_of, say_views, unfitted
from unprompted.apps.batch.prepare import Learnable, describe, read_support
from unprompted.datasets.pairing import listed
from unprompted.errors import UsageError
from unprompted.io.atomic import replacing
from unprompted.launched import leads
from unprompted.registry import AUTO_METHOD

if TYPE_CHECKING:
    from unprompted.backbones.base import Backbone
    from unprompted.methods.base import Method
    from unprompted.segmenter import FittedSegmenter

# The façade imports torch, which takes seconds: every function here imports it when it is called.


@dataclass(frozen=True, eq=False)
class Ready:
    """A model that is loaded, and what it will be or was fitted on."""

    method: "Method"
    backbone: "Backbone"
    learnable: Learnable
    model: ModelChoice
    task: "FittedSegmenter | None" = None

    def configuration(self) -> dict[str, Any]:
        """Everything that decides the masks, the images aside; no path."""
        from unprompted.loading import method_name, settings_of

        learn, support, name = self.learnable, self.learnable.support, self.backbone.name
        views = self.model.views if self.task is None else self.task.views
        return {
            "unprompted": __version__,
            "method": method_name(self.method),
            "settings": settings_of(self.method),
            "views": list(views.names),
            "adapt": self._adaptation(),
            "refinement": refinement_of(self.model).steps if self.task is None else self.task.refined.steps,
            "training_digest": None if learn.training is None else learn.training.digest,
            "backbone": Path(name).name if Path(name).exists() else name,
            "weights_sha256": self.backbone.digest,
            "input_size": self.backbone.input_size,
            "dtype": self.model.dtype,
            "memory_pool": self.model.memory_pool,
            "seed": self.model.seed if self.task is None else self.task.seed,
            "support_digest": support.digest,
            "support_cases": list(support.cases),
            "classes": {str(value): name for value, name in support.classes.items()},
            "axis": self.learnable.axis,
            "intensity": self.learnable.intensity.as_dict(),
        }

    def fitted(self, watch: Watcher, checkpoint: Path | None = None) -> "FittedSegmenter":
        """The task, fitted now where it is not yet; a checkpoint keeps unfinished training."""
        if self.task is not None:
            return self.task
        segmenter, learn = unfitted(self.method, self.backbone, self.model), self.learnable
        task = segmenter.fit(
            learn.support,
            axis=learn.axis,
            seed=self.model.seed,
            progress=watch.progress,
            training=learn.training,
            checkpoint=checkpoint,
        )
        if task.adapted is not None and task.adapted.history:
            before, best = task.adapted.history[0][2], max(dice for _, _, dice in task.adapted.history)
            kept = f"{task.adapted.steps} steps" if task.adapted.steps else "no gain, backbone kept as it is"
            watch.say("adapted", f"{kept}; Dice on what was left out {before:.3f}, at best {best:.3f}")
        for prefix, history in task.refined.history.items():
            kept = (
                "masks are refined" if prefix in task.refined.refiners else "no gain, masks kept as they are"
            )
            dice = [dice for _, dice in history]
            watch.say("refined", f"{kept}; Dice on the case left out {dice[0]:.3f}, at best {max(dice):.3f}")
        return task

    def _adaptation(self) -> Any:
        """What decides the adapted weights: the budget, or the weights a task has already."""
        if self.task is None and self.model.adapters is not None:
            from unprompted.task import read_task

            return read_task(self.model.adapters).get("adapted")
        if self.task is None:
            budget = self.model.adapt
            return {"seconds": budget.seconds, "steps": budget.steps} if budget else None
        return None if self.task.adapted is None else self.task.adapted.backbone.digest


def fit_folder(
    choice: SupportChoice, model: ModelChoice, output: Path, overwrite: bool, watch: Watcher
) -> None:
    """Fit on a folder of labelled cases and save the task; of several processes, the first one saves.

    Raises:
        UsageError: the output folder holds something.
        UnpromptedError: as `segment_folder` says.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        if not (output / "task.json").is_file():
            raise UsageError(f"{output} exists and holds no fitted task; choose another folder")
        if not overwrite:
            raise UsageError(f"{output} holds a fitted task; use --overwrite or another folder")
    learnable = read_support(choice, watch)
    describe(learnable, watch)
    unfinished = output.parent / f".training-{output.name}.pt"
    task = load_model(learnable, model, watch).fitted(watch, unfinished)
    if leads():
        with replacing(output) as partial:
            task.save(partial)


def load_model(learnable: Learnable, model: ModelChoice, watch: Watcher) -> Ready:
    """The chosen method and backbone, not fitted yet; the method "auto" is settled here.

    Raises:
        UsageError: the method, one of its settings or the device does not exist, or a view cannot be used.
        WeightsUnavailable: the weights are missing or not what they should be.
    """
    from unprompted.loading import make_method

    model.views.check(learnable.support, learnable.axis)
    if model.method == AUTO_METHOD:
        backbone = backbone_of(model)
        model = replace(model, method=best_method(learnable, model, backbone, watch))
        method = make_method(model.method)
    else:
        method = make_method(model.method, dict(model.settings))
        backbone = backbone_of(model)
    watch.say("method", f"{model.method} on {described(backbone)}")
    say_views(model.views, watch)
    if model.adapters is not None:
        watch.say("adapters", f"those of the task {model.adapters}")
    return Ready(method, backbone, learnable, model)


def load_task(folder: Path, model: ModelChoice, watch: Watcher) -> Ready:
    """A fitted task with its backbone.

    Raises:
        UnreadableFile: the folder holds no task.
        WeightsUnavailable: the weights are missing, or not those the task was fitted with.
    """
    from unprompted.loading import load_backbone, method_name
    from unprompted.segmenter import FittedSegmenter
    from unprompted.task import read_task

    description = read_task(folder)
    backbone = load_backbone(
        model.backbone or description["backbone"],
        input_size=description["input_size"],
        device=model.device,
        dtype=model.dtype,
        memory_pool=model.memory_pool,
    )
    task = FittedSegmenter.load(folder, backbone, adapters=model.adapters)
    watch.say(
        "task", f"{method_name(task.method)} on {described(backbone)}, fitted on {listed(task.support.cases)}"
    )
    say_views(task.views, watch)
    learnable = Learnable(task.support, task.axis, task.intensity)
    return Ready(task.method, backbone, learnable, model, task)
