"""Pretraining of the built-in backbone on generated episodes: one loop, resumable to the bit."""

import csv
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from unprompted.backbones.sam2 import Sam2Backbone
from unprompted.backbones.tiny import TinyShape, random_model
from unprompted.errors import UsageError
from unprompted.training.objective import EpisodeBatch, ObjectiveChoices, episode_loss
from unprompted.training.recipes import PretrainRecipe
from unprompted.training.synth import SynthSettings, episode

LOG_FIELDS = ("step", "size", "loss", "dice", "held_out_dice", "learning_rate", "frames_per_s", "elapsed_s")
_PEAK_SHARE = 0.6  # of all steps: the learning rate stays at its peak until then
_HELD_OUT = 1 << 40  # seeds from here on are never trained on


class Episodes(Dataset[EpisodeBatch]):
    """The batch of every step, made from the step's number alone."""

    def __init__(self, recipe: PretrainRecipe, seed_offset: int = 0) -> None:
        self.recipe = recipe
        self.seed_offset = seed_offset

    def __getitem__(self, step: int) -> EpisodeBatch:
        """Episodes of equal layout for one step."""
        recipe, stage = self.recipe, self.recipe.stage_at(step)
        first = self.seed_offset + (recipe.seed << 32) + step * stage.batch
        draw = torch.Generator().manual_seed(first)
        supports = int(torch.randint(recipe.supports[0], recipe.supports[1] + 1, (1,), generator=draw))
        classes = int(torch.randint(recipe.classes[0], recipe.classes[1] + 1, (1,), generator=draw))
        strength, smallest = torch.rand(2, generator=draw).tolist()
        least, most = recipe.smallest
        settings = SynthSettings(
            **vars(recipe.synth)
            | {
                "size": stage.size,
                "supports": (supports, supports),
                "queries": recipe.queries,
                "classes": (classes, classes),
                "strength": recipe.synth.strength * strength,
                "smallest": least * (most / least) ** smallest,
            }
        )
        made = [episode(settings, seed=first + i) for i in range(stage.batch)]
        return EpisodeBatch(
            torch.stack([e.pixels for e in made]), torch.stack([e.masks for e in made]), supports
        )


def pretrain(
    recipe: PretrainRecipe,
    folder: Path,
    *,
    device: str = "cpu",
    workers: int = 0,
    checkpoint_every: int = 100,
    held_out_batches: int = 8,
    until: int | None = None,
    initial: Path | None = None,
    report: Callable[[dict[str, float]], None] = lambda row: None,
) -> Path:
    """Run or resume a recipe.

    Args:
        recipe: what to train.
        folder: holds ``checkpoint.pt`` and ``log.csv``; an existing checkpoint is resumed.
        device: where to train.
        workers: processes that generate episodes; 0 generates in this one.
        checkpoint_every: steps between checkpoints and held-out measurements.
        held_out_batches: batches of episodes never trained on, for the log.
        until: stop after this step though the recipe goes on, 0 before the first; None runs to its end.
        initial: safetensors file whose weights a new run starts from; None starts from random ones.
        report: called with each row of the log.

    Returns:
        Path of the checkpoint.

    Raises:
        UsageError: the folder's checkpoint belongs to another recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    resumed = checkpoint.exists()
    state = _load(checkpoint, recipe, device) if resumed else _State(recipe, device, initial)
    last = min(recipe.steps, until if until is not None else recipe.steps)
    if not resumed and last == 0:
        state.save(checkpoint)
    while state.step < last:
        stage_end = _end_of_stage(recipe, state.step)
        stop = min(last, stage_end, state.step + checkpoint_every)
        row = _run(state, recipe, range(state.step, stop), device, workers)
        row["held_out_dice"] = held_out_dice(state.averaged_model(), recipe, held_out_batches, device)
        state.save(checkpoint)
        _append(folder / "log.csv", row)
        report(row)
    return checkpoint


class _State:
    """Model, optimiser and averaged weights at one step."""

    def __init__(self, recipe: PretrainRecipe, device: str, initial: Path | None = None) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.device = recipe, device
        self.weights = {k: v.to(device) for k, v in random_model(recipe.shape).state_dict().items()}
        if initial is not None:
            self.weights = _read(initial, self.weights, device)
        self.probe = torch.nn.Conv2d(recipe.shape.channels, 1, 1).to(device)
        self.step, self.elapsed_s = 0, 0.0
        self.place(recipe.stage_at(0).size)
        self.average = {k: v.clone() for k, v in self.model.state_dict().items()}

    def place(self, size: int) -> None:
        """Build model and optimiser at an input size around the current weights."""
        shape = TinyShape(**vars(self.recipe.shape) | {"input_size": size})
        self.model = random_model(shape).to(self.device)
        self.model.load_state_dict(self.weights)
        self.model.train()
        trained = [*self.model.parameters(), *self.probe.parameters()]
        matrices = [p for p in trained if p.ndim > 1]
        rest = [p for p in trained if p.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": self.recipe.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=self.recipe.learning_rate, betas=(0.9, 0.99))
        self.size = size

    def averaged_model(self) -> Any:
        """A copy of the model with the averaged weights, in eval mode."""
        shape = TinyShape(**vars(self.recipe.shape) | {"input_size": self.size})
        model = random_model(shape).to(self.device)
        model.load_state_dict(self.average)
        return model.eval()

    def save(self, path: Path) -> None:
        """Write a checkpoint under another name first, so that a kill never leaves half of one."""
        content = {
            "recipe": repr(self.recipe),
            "step": self.step,
            "elapsed_s": self.elapsed_s,
            "size": self.size,
            "model": self.model.state_dict(),
            "probe": self.probe.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
        }
        part = path.with_suffix(".part")
        torch.save(content, part)
        part.replace(path)


def _read(path: Path, like: dict[str, Tensor], device: str) -> dict[str, Tensor]:
    """Weights from a safetensors file, of the names and shapes of others.

    Raises:
        UsageError: the file cannot be read, or holds another model.
    """
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"--from {path} cannot be read ({error}); give a safetensors file") from error
    if {k: v.shape for k, v in found.items()} != {k: v.shape for k, v in like.items()}:
        raise UsageError(f"--from {path} holds another model than the recipe; give weights of the same shape")
    return {k: v.to(device).float() for k, v in found.items()}


def _load(path: Path, recipe: PretrainRecipe, device: str) -> _State:
    content = torch.load(path, map_location=device, weights_only=True)
    if content["recipe"] != repr(recipe):
        raise UsageError(
            f"{path} belongs to another recipe; give an empty folder, or the recipe it began with"
        )
    state = _State(recipe, device)
    state.weights = content["model"]
    state.probe.load_state_dict(content["probe"])
    state.place(content["size"])
    state.optimiser.load_state_dict(content["optimiser"])
    state.average, state.step, state.elapsed_s = content["average"], content["step"], content["elapsed_s"]
    return state


def _end_of_stage(recipe: PretrainRecipe, step: int) -> int:
    end = 0
    for stage in recipe.stages:
        end += stage.steps
        if step < end:
            break
    return end


def _batches(episodes: Episodes, steps: range, workers: int) -> Iterator[EpisodeBatch]:
    loader = DataLoader(
        episodes,
        batch_size=None,
        sampler=list(steps),
        num_workers=workers,
        worker_init_fn=lambda _: torch.set_num_threads(1),
    )
    return iter(loader)


def _run(state: _State, recipe: PretrainRecipe, steps: range, device: str, workers: int) -> dict[str, float]:
    """Optimise over some steps of one stage; the row they leave in the log."""
    size = recipe.stage_at(steps.start).size
    if size != state.size:
        state.weights = state.model.state_dict()
        moments = state.optimiser.state_dict()
        state.place(size)
        state.optimiser.load_state_dict(moments)
    backbone = Sam2Backbone(state.model, "training")
    begun, seen, losses, dices = time.perf_counter(), 0, [], []
    for step, batch in zip(steps, _batches(Episodes(recipe), steps, workers), strict=True):
        batch = EpisodeBatch(batch.pixels.to(device), batch.masks.to(device), batch.supports)
        objects = batch.masks.shape[0] * batch.masks.shape[2]
        choices = ObjectiveChoices.draw(
            step, recipe.queries, objects, recipe.single_mask_share, recipe.box_share
        )
        loss, dice = episode_loss(backbone, batch, choices, state.probe)
        rate = _update(state, recipe, step, loss)
        losses.append(loss.detach())
        dices.append(dice)
        seen += batch.pixels.shape[0] * batch.pixels.shape[1]
    elapsed = time.perf_counter() - begun
    state.step = steps.stop
    state.elapsed_s += elapsed
    return {
        "step": steps.stop,
        "size": size,
        "loss": float(torch.stack(losses).mean()),
        "dice": float(torch.stack(dices).mean()),
        "learning_rate": rate,
        "frames_per_s": seen / elapsed,
        "elapsed_s": state.elapsed_s,
    }


def learning_rate_at(recipe: PretrainRecipe, step: int) -> float:
    """Linear warm-up, then the peak, then half a cosine down to a hundredth over the last 40 % of steps."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    falls_from = max(recipe.warmup, round(_PEAK_SHARE * recipe.steps))
    fallen = min(1.0, max(0, step - falls_from) / max(1, recipe.steps - falls_from))
    return recipe.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * fallen)))


def _update(state: _State, recipe: PretrainRecipe, step: int, loss: Tensor) -> float:
    rate = learning_rate_at(recipe, step)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.model.parameters(), recipe.gradient_clip)
    state.optimiser.step()
    decay = min(recipe.ema, (step + 1) / (step + 10))  # the average starts from the weights, not from noise
    for name, value in state.model.state_dict().items():
        if value.is_floating_point():
            state.average[name].lerp_(value, 1 - decay)
    return rate


@torch.no_grad()
def held_out_dice(model: Any, recipe: PretrainRecipe, batches: int, device: str) -> float:
    """Mean Dice on generated episodes never trained on, along the standard inference path."""
    backbone = Sam2Backbone(model, "held-out")
    size = backbone.input_size
    stage = next(i for i, s in enumerate(recipe.stages) if s.size == size)
    first = sum(s.steps for s in recipe.stages[:stage])
    episodes = Episodes(recipe, seed_offset=_HELD_OUT)
    dices = []
    for step in range(first, first + batches):
        batch = episodes[step]
        batch = EpisodeBatch(batch.pixels.to(device), batch.masks.to(device), batch.supports)
        choices = ObjectiveChoices((False,) * recipe.queries, False, torch.empty(0, 4))
        dices.append(episode_loss(backbone, batch, choices)[1])
    return float(torch.stack(dices).mean())


def _append(path: Path, row: dict[str, float]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, LOG_FIELDS)
        if new:
            writer.writeheader()
        writer.writerow({name: f"{row[name]:.6g}" for name in LOG_FIELDS})
