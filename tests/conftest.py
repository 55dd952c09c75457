"""Fixtures shared by all tests; nothing heavy is imported before a test asks for it."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch reads it when it is first imported


@pytest.fixture(scope="session")
def single_thread():
    """Torch on one thread: tests share a small machine."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory, single_thread):
    """A random SAM2 of 256-pixel input, as transformers saves it; loads in a moment."""
    import torch

    from unprompted.backbones.tiny import TinyShape, random_model

    shape = TinyShape(
        256, widths=(16, 32, 48, 64), blocks=(1, 1, 1, 1), channels=128, memory_layers=1, decoder_mlp=128
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = random_model(shape).eval()
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def unrefined_by_default():
    """No refinement where a test does not ask for it: it takes minutes with the built-in model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unprompted.refinement.settings.DEFAULT_STEPS", 0)
        yield
