"""The method ofl-sam2, quick, and its step on one frame."""

from dataclasses import replace

import torch

from fakes import FakeBackbone
from unprompted.methods.base import Place
from unprompted.methods.ofl_sam2 import OflSam2

QUICK = OflSam2(epochs=2, steps_per_epoch=2, sequence=2)
AS_PUBLISHED = replace(QUICK, retrieved=2, similarity="cosine", candidates="shown")


def silent(what, done, of):
    pass


def pooled_of(query):
    return torch.stack([f.pooled for f in query])


def first_step(method, support, query, learned, at=0):
    """The step on one frame of a new sequence that starts there, and the state and bank before it."""
    backbone = FakeBackbone()
    fitted = method.prepare(backbone, support, learned)
    with torch.no_grad():
        state, bank = method.begin(fitted, pooled_of(query), at)
        return method.step(backbone, state, query[at], bank, Place(at, at, 1)), state, bank
