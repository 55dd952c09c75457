"""From the choice of a model to the model itself."""

from typing import TYPE_CHECKING

from unprompted.apps.batch.choices import ModelChoice, Watcher
from unprompted.registry import DEFAULT_BACKBONE

if TYPE_CHECKING:
    from unprompted.backbones.base import Backbone
    from unprompted.engine.views import Views
    from unprompted.methods.base import Method
    from unprompted.refinement.settings import Refinement
    from unprompted.segmenter import Segmenter

# The façade imports torch, which takes seconds: every function here imports it when it is called.


def backbone_of(model: ModelChoice) -> "Backbone":
    """The chosen backbone, loaded.

    Raises:
        UsageError: the device does not exist.
        WeightsUnavailable: the weights are missing or not what they should be.
    """
    from unprompted.loading import load_backbone

    source = model.backbone or DEFAULT_BACKBONE
    return load_backbone(
        source,
        input_size=model.input_size,
        device=model.device,
        dtype=model.dtype,
        memory_pool=model.memory_pool,
    )


def unfitted(method: "Method", backbone: "Backbone", model: ModelChoice) -> "Segmenter":
    """A method on a backbone with all else that a choice says."""
    from unprompted.adaptation.settings import Adaptation
    from unprompted.segmenter import Segmenter

    budget = Adaptation(model.adapt.seconds, model.adapt.steps)
    return Segmenter(method, backbone, model.views, budget, refinement_of(model), model.adapters)


def refinement_of(model: ModelChoice) -> "Refinement":
    """How masks are refined."""
    from unprompted.refinement.settings import Refinement

    return Refinement() if model.refine else Refinement(steps=0)


def say_views(views: "Views", watch: Watcher) -> None:
    """Say which test-time choices are on, if any."""
    if views.names:
        watch.say("views", ", ".join(views.names))


def described(backbone: "Backbone") -> str:
    """Name, input size and device, for people."""
    return f"{backbone.name}, {backbone.input_size} pixels, {backbone.device}"
