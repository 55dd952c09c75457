import huggingface_hub.constants
import pytest
import torch
from transformers import Sam2VideoConfig, Sam2VideoModel

torch.set_num_threads(1)


def make_model():
    torch.manual_seed(0)
    return Sam2VideoModel(
        Sam2VideoConfig(
            vision_config={
                "backbone_config": {
                    "model_type": "sam2_hiera_det_model",
                    "hidden_size": 16,
                    "embed_dim_per_stage": [16, 32, 64, 128],
                    "blocks_per_stage": [1, 1, 2, 1],
                    "global_attention_blocks": [3],
                },
                "backbone_channel_list": [128, 64, 32, 16],
                "fpn_hidden_size": 64,
            },
            prompt_encoder_config={"hidden_size": 64},
            mask_decoder_config={"hidden_size": 64, "mlp_dim": 64, "iou_head_hidden_dim": 32},
            memory_attention_hidden_size=64,
            memory_attention_num_layers=1,
            memory_attention_feed_forward_hidden_size=64,
            memory_encoder_hidden_size=64,
            mask_downsampler_embed_dim=64,
            memory_fuser_embed_dim=64,
            memory_fuser_intermediate_dim=64,
        )
    )


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty hub cache, and a hub that answers to nobody."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"
