"""What to expect of a run, from its labelled cases alone; and which method to take."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from unprompted.apps.batch.choices import ModelChoice, SupportChoice, Watcher
from unprompted.apps.batch.models import backbone_of, described, say_views, unfitted
from unprompted.apps.batch.prepare import Learnable, describe, read_support
from unprompted.errors import UsageError
from unprompted.registry import AUTO_CANDIDATES, DEFAULT_METHOD

if TYPE_CHECKING:
    from unprompted.backbones.base import Backbone
    from unprompted.evaluation.estimate import Estimate


def estimate_folder(
    choice: SupportChoice, model: ModelChoice, methods: Sequence[str], watch: Watcher
) -> "Estimate":
    """Leave the labelled cases of a folder out in turn and segment them from the others.

    Args:
        choice: the labelled cases.
        model: what segments; its settings are those of a single method.
        methods: what is compared, by registry name.
        watch: who follows.

    Raises:
        UsageError: the call is wrong, or a single image or slice is labelled.
        DataRefused: the support cannot be used.
        WeightsUnavailable: the backbone cannot be loaded.
    """
    learnable = read_support(choice, watch)
    describe(learnable, watch)
    model.views.check(learnable.support, learnable.axis)
    backbone = backbone_of(model)
    watch.say("methods", f"{', '.join(methods)} on {described(backbone)}")
    say_views(model.views, watch)
    return _estimated(learnable, model, methods, backbone, watch)


def best_method(learnable: Learnable, model: ModelChoice, backbone: "Backbone", watch: Watcher) -> str:
    """The candidate that does best on labelled cases left out; the default where that cannot be told."""
    from unprompted.evaluation.folds import folds_of

    try:
        folds_of(learnable.support, learnable.axis)
    except UsageError as error:
        watch.say("auto", f"takes the default, {DEFAULT_METHOD}: {error}")
        return DEFAULT_METHOD
    watch.say("auto", f"tries {', '.join(AUTO_CANDIDATES)} on labelled cases left out, without refinement")
    found = _estimated(learnable, replace(model, refine=False), AUTO_CANDIDATES, backbone, watch)
    for one in found.methods:
        spent = sum(trial.elapsed_s for trial in one.trials) + one.fit_s * len(one.trials)
        watch.say(
            "auto", f"{one.method}: Dice {one.overall.dice:.3f} on cases left out, tried for {spent:.0f} s"
        )
    watch.say("auto", f"takes {found.best.method}; {found.elapsed_s:.0f} s to find out")
    return found.best.method


def _estimated(
    learnable: Learnable, model: ModelChoice, methods: Sequence[str], backbone: "Backbone", watch: Watcher
) -> "Estimate":
    from unprompted.evaluation.estimate import estimate
    from unprompted.loading import make_method

    segmenters = [
        unfitted(make_method(method, dict(model.settings)), backbone, replace(model, method=method))
        for method in methods
    ]
    return estimate(
        learnable.support, segmenters, axis=learnable.axis, seed=model.seed, progress=watch.progress
    )
