"""A checkpoint in SAM2's original format gives the model it was written from.

The table below goes from our names to the original ones and was written on its own, so that a slip in
the package's table, which goes the other way, does not cancel out.
"""

import hashlib
import re

import pytest
import torch
from safetensors.torch import save_file
from transformers import Sam2VideoConfig, Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

from unprompted.backbones.original_format import config_from_original, state_dict_from_original
from unprompted.backbones.weights import load_model, parameters_digest
from unprompted.errors import WeightsUnavailable

torch.set_num_threads(1)
SIDE = 256
# Sorted names of sam2_hiera_t 2.1, one per line, as the sam2 1.1.0 package builds the model.
NAMES_OF_TINY_2_1 = "065685fec829b34e6ad6649390580c1c06e57ed1b9e171f9a9922610880b8270"

MLP2 = {"proj_in": "layers.0", "proj_out": "layers.1"}
MLP3 = {"proj_in": "layers.0", "layers.0": "layers.1", "proj_out": "layers.2"}
WHOLE = {
    "no_memory_embedding": "no_mem_embed",
    "no_memory_positional_encoding": "no_mem_pos_enc",
    "memory_temporal_positional_encoding": "maskmem_tpos_enc",
    "no_object_pointer": "no_obj_ptr",
    "occlusion_spatial_embedding_parameter": "no_obj_embed_spatial",
    "prompt_encoder.shared_embedding.positional_embedding": (
        "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
    ),
}
SEQUENCES = {
    "mask_embed.conv1": "mask_downscaling.0",
    "mask_embed.layer_norm1": "mask_downscaling.1",
    "mask_embed.conv2": "mask_downscaling.3",
    "mask_embed.layer_norm2": "mask_downscaling.4",
    "mask_embed.conv3": "mask_downscaling.6",
    "upscale_conv1": "output_upscaling.0",
    "upscale_layer_norm": "output_upscaling.1",
    "upscale_conv2": "output_upscaling.3",
    "mask_downsampler.layers.0.conv": "mask_downsampler.encoder.0",
    "mask_downsampler.layers.0.layer_norm": "mask_downsampler.encoder.1",
    "mask_downsampler.layers.1.conv": "mask_downsampler.encoder.3",
    "mask_downsampler.layers.1.layer_norm": "mask_downsampler.encoder.4",
    "mask_downsampler.layers.2.conv": "mask_downsampler.encoder.6",
    "mask_downsampler.layers.2.layer_norm": "mask_downsampler.encoder.7",
    "mask_downsampler.layers.3.conv": "mask_downsampler.encoder.9",
    "mask_downsampler.layers.3.layer_norm": "mask_downsampler.encoder.10",
    "mask_downsampler.final_conv": "mask_downsampler.encoder.12",
}
SUBSTITUTIONS = (
    (r"^temporal_positional_encoding_projection_layer", "obj_ptr_tpos_proj"),
    (r"^object_pointer_proj\.(proj_in|layers\.0|proj_out)", lambda m: f"obj_ptr_proj.{MLP3[m[1]]}"),
    (r"^vision_encoder\.neck\.convs\.(\d)", r"image_encoder.neck.convs.\1.conv"),
    (r"^vision_encoder\.backbone\.patch_embed\.projection", "image_encoder.trunk.patch_embed.proj"),
    (r"^vision_encoder\.backbone", "image_encoder.trunk"),
    (r"^prompt_encoder", "sam_prompt_encoder"),
    (r"^mask_decoder", "sam_mask_decoder"),
    (r"^memory_encoder\.feature_projection", "memory_encoder.pix_feat_proj"),
    (r"^memory_encoder\.projection", "memory_encoder.out_proj"),
    (r"^memory_encoder\.memory_fuser", "memory_encoder.fuser"),
    (r"depthwise_conv", "dwconv"),
    (r"pointwise_conv", "pwconv"),
    (r"(fuser\.layers\.\d)\.scale$", r"\1.gamma"),
    (r"\.mlp\.(proj_in|proj_out)\.", lambda m: f".mlp.{MLP2[m[1]]}."),
    (
        r"(output_hypernetworks_mlps\.\d|iou_prediction_head|pred_obj_score_head)\.(proj_in|layers\.0|proj_out)",
        lambda m: f"{m[1]}.{MLP3[m[2]]}",
    ),
    (r"\.o_proj\.", ".out_proj."),
    (r"layer_norm", "norm"),
)


def original_name(name):
    if name in WHOLE:
        return WHOLE[name]
    for ours, theirs in SEQUENCES.items():
        if f".{ours}." in name:
            name = name.replace(f".{ours}.", f".{theirs}.")
    for pattern, theirs in SUBSTITUTIONS:
        name = re.sub(pattern, theirs, name)
    return name


def to_original(state):
    state = {name: tensor.clone() for name, tensor in state.items()}
    del state["shared_image_embedding.positional_embedding"]
    points = state.pop("prompt_encoder.point_embed.weight")
    written = {original_name(name): tensor for name, tensor in state.items()}
    for n in range(4):
        written[f"sam_prompt_encoder.point_embeddings.{n}.weight"] = points[n : n + 1].clone()
    return written


def small_config(**changes):
    return Sam2VideoConfig(
        vision_config={
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": 16,
                "embed_dim_per_stage": [16, 32, 64, 128],
                "blocks_per_stage": [1, 1, 2, 1],
                "num_attention_heads_per_stage": [1, 2, 4, 8],
                "global_attention_blocks": [3],
            },
            "backbone_channel_list": [128, 64, 32, 16],
            "fpn_hidden_size": 128,
        },
        prompt_encoder_config={"hidden_size": 128},
        mask_decoder_config={"hidden_size": 128, "mlp_dim": 128, "iou_head_hidden_dim": 32},
        memory_attention_hidden_size=128,
        memory_attention_num_layers=2,
        memory_attention_feed_forward_hidden_size=128,
        memory_encoder_hidden_size=128,
        mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=96,
        **changes,
    )


VERSIONS = {
    "2.1": {},
    "2.0": {
        "enable_occlusion_spatial_embedding": False,
        "enable_temporal_pos_encoding_for_object_pointers": False,
    },
}


@pytest.fixture(params=VERSIONS)
def small(request, tmp_path):
    """A model with random weights everywhere, and the folder it was saved to."""
    torch.manual_seed(0)
    model = Sam2VideoModel(small_config(**VERSIONS[request.param]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.1)
        twin = model.prompt_encoder.shared_embedding.positional_embedding
        model.shared_image_embedding.positional_embedding.copy_(twin)
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(5.0)  # the object is seen
    model.save_pretrained(tmp_path / "folder")
    return model, tmp_path / "folder"


def tracked(model):
    """Mask logits of a clip of four frames, with a mask given on the first."""
    generator = torch.Generator().manual_seed(1)
    clip = torch.randn(4, 3, SIDE, SIDE, generator=generator)
    session = Sam2VideoInferenceSession(video=clip, video_height=SIDE, video_width=SIDE, dtype=torch.float32)
    mask = torch.zeros(1, 1, SIDE, SIDE)
    mask[..., 60:140, 80:190] = 1
    session.add_mask_inputs(session.obj_id_to_idx(1), 0, mask)
    session.obj_with_new_inputs = [1]
    with torch.no_grad():
        return torch.stack([model(session, frame_idx=t).pred_masks for t in range(4)])


def meta_state(**changes):
    with torch.device("meta"):
        return Sam2VideoModel(Sam2VideoConfig(**changes)).state_dict()


def test_an_original_checkpoint_gives_the_same_features_and_the_same_tracking(small, tmp_path):
    model, folder = small
    torch.save({"model": to_original(model.state_dict())}, tmp_path / "sam2.pt")

    expected = load_model(str(folder), SIDE)
    found = load_model(str(tmp_path / "sam2.pt"), SIDE, config=model.config)

    frames = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        features = [m.get_image_features(frames).fpn_hidden_states for m in (expected, found)]
    for one, other in zip(*features, strict=True):
        assert torch.equal(one, other)
    logits = tracked(found)
    # Some processors add up in another order where a tensor lies elsewhere in memory.
    torch.testing.assert_close(logits, tracked(expected), atol=1e-5, rtol=1e-5)
    assert logits[1:].min() > -1024  # the object was not given up, so every module took part
    assert logits[1:].std() > 0


def test_an_original_checkpoint_gives_the_same_parameters_as_the_model_it_came_from(small, tmp_path):
    model, _ = small
    torch.save({"model": to_original(model.state_dict())}, tmp_path / "sam2.pth")
    found = load_model(str(tmp_path / "sam2.pth"), config=model.config)
    assert parameters_digest(found) == parameters_digest(model)


def test_original_names_may_come_as_safetensors(small, tmp_path):
    model, _ = small
    save_file(to_original(model.state_dict()), tmp_path / "sam2.safetensors")
    found = load_model(str(tmp_path / "sam2.safetensors"), config=model.config)
    assert parameters_digest(found) == parameters_digest(model)


def test_the_names_of_the_tiny_model_are_those_of_the_sam2_package():
    names = set(to_original(meta_state()))
    assert len(names) == 471
    assert hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest() == NAMES_OF_TINY_2_1
    assert names >= {
        "maskmem_tpos_enc",
        "no_obj_embed_spatial",
        "obj_ptr_proj.layers.0.weight",
        "obj_ptr_tpos_proj.bias",
        "image_encoder.trunk.pos_embed_window",
        "image_encoder.trunk.blocks.0.attn.qkv.weight",
        "image_encoder.trunk.blocks.11.mlp.layers.1.bias",
        "image_encoder.neck.convs.3.conv.weight",
        "sam_prompt_encoder.mask_downscaling.6.bias",
        "sam_prompt_encoder.not_a_point_embed.weight",
        "sam_mask_decoder.output_hypernetworks_mlps.3.layers.2.bias",
        "sam_mask_decoder.transformer.layers.1.norm4.weight",
        "sam_mask_decoder.transformer.norm_final_attn.bias",
        "memory_encoder.fuser.layers.1.dwconv.weight",
        "memory_encoder.mask_downsampler.encoder.12.weight",
        "memory_attention.layers.3.cross_attn_image.k_proj.weight",
    }


@pytest.mark.parametrize(
    ("widths", "blocks", "heads", "windows", "attend_globally", "background"),
    [
        ([96, 192, 384, 768], [1, 2, 7, 2], [1, 2, 4, 8], [8, 4, 14, 7], [5, 7, 9], [7, 7]),
        ([96, 192, 384, 768], [1, 2, 11, 2], [1, 2, 4, 8], [8, 4, 14, 7], [7, 10, 13], [7, 7]),
        ([112, 224, 448, 896], [2, 3, 16, 3], [2, 4, 8, 16], [8, 4, 14, 7], [12, 16, 20], [14, 14]),
        ([144, 288, 576, 1152], [2, 6, 36, 4], [2, 4, 8, 16], [8, 4, 16, 8], [23, 33, 43], [7, 7]),
    ],
    ids=["tiny", "small", "base-plus", "large"],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_released_architecture_is_read_off_the_tensors(
    version, widths, blocks, heads, windows, attend_globally, background
):
    trunk = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": widths[0],
        "num_attention_heads": heads[0],
        "embed_dim_per_stage": widths,
        "blocks_per_stage": blocks,
        "num_attention_heads_per_stage": heads,
        "window_size_per_stage": windows,
        "global_attention_blocks": attend_globally,
        "window_positional_embedding_background_size": background,
    }
    vision = {"backbone_config": trunk, "backbone_channel_list": widths[::-1]}
    expected = Sam2VideoConfig(vision_config=vision, **VERSIONS[version])
    with torch.device("meta"):
        original = to_original(Sam2VideoModel(expected).state_dict())
    fresh = Sam2VideoConfig(vision_config=vision, **VERSIONS[version])
    assert config_from_original(original).to_dict() == fresh.to_dict()


def test_an_unknown_encoder_asks_for_its_configuration():
    with torch.device("meta"):
        original = to_original(Sam2VideoModel(small_config()).state_dict())
    with pytest.raises(WeightsUnavailable, match=r"blocks \[1, 1, 2, 1\].*give the configuration"):
        config_from_original(original)


def test_a_weight_of_another_model_is_named():
    original = to_original(meta_state()) | {"backbone.layer4.weight": torch.zeros(1)}
    with pytest.raises(WeightsUnavailable, match=r"1 unexpected weights \(backbone.layer4.weight\)"):
        state_dict_from_original(original)


def test_a_missing_point_embedding_is_named():
    original = to_original(meta_state())
    del original["sam_prompt_encoder.point_embeddings.2.weight"]
    with pytest.raises(WeightsUnavailable, match=r"missing weights \(sam_prompt_encoder.point_embeddings.2"):
        state_dict_from_original(original)


def test_a_checkpoint_that_lacks_the_sizes_is_refused():
    with pytest.raises(WeightsUnavailable, match=r"sam_mask_decoder\.iou_token\.weight is missing"):
        config_from_original({"maskmem_tpos_enc": torch.zeros(7, 1, 1, 64)})
