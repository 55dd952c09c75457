"""SAM2's original checkpoints in transformers' terms: parameter names and the architecture they imply.

The original names are those of github.com/facebookresearch/sam2 (SAM 2.0, SAM 2.1 and models
fine-tuned from them, MedSAM2 among them). A 2.0 file lacks ``no_obj_embed_spatial`` and
``obj_ptr_tpos_proj``; that is how the two are told apart.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Sam2VideoConfig

from unprompted.errors import WeightsUnavailable

_BLOCK, _NECK = r"image_encoder\.trunk\.blocks\.(\d+)", r"image_encoder\.neck\.convs\.(\d+)"
_PROMPT, _MASK = r"sam_prompt_encoder", r"sam_mask_decoder"
_TWO_WAY, _HYPER = rf"{_MASK}\.transformer\.layers\.(\d+)", rf"{_MASK}\.output_hypernetworks_mlps\.(\d+)"
_MEMORY, _FUSER = r"memory_attention\.layers\.(\d+)", r"memory_encoder\.fuser\.layers\.(\d+)"
_DOWNSAMPLER_STEPS = 4  # convolutions of stride 2 that take a mask to stride 16

# Original module (a regular expression) to ours; the parameter's own name, `weight` or `bias`, follows.
_MODULES = {
    r"mask_downsample": r"mask_downsample",
    r"obj_ptr_tpos_proj": r"temporal_positional_encoding_projection_layer",
    r"image_encoder\.trunk\.patch_embed\.proj": r"vision_encoder.backbone.patch_embed.projection",
    rf"{_BLOCK}\.norm([12])": r"vision_encoder.backbone.blocks.\1.layer_norm\2",
    rf"{_BLOCK}\.(attn\.qkv|attn\.proj|proj)": r"vision_encoder.backbone.blocks.\1.\2",
    rf"{_NECK}\.conv": r"vision_encoder.neck.convs.\1",
    rf"{_PROMPT}\.(no_mask_embed|not_a_point_embed)": r"prompt_encoder.\1",
    rf"{_PROMPT}\.mask_downscaling\.0": r"prompt_encoder.mask_embed.conv1",
    rf"{_PROMPT}\.mask_downscaling\.1": r"prompt_encoder.mask_embed.layer_norm1",
    rf"{_PROMPT}\.mask_downscaling\.3": r"prompt_encoder.mask_embed.conv2",
    rf"{_PROMPT}\.mask_downscaling\.4": r"prompt_encoder.mask_embed.layer_norm2",
    rf"{_PROMPT}\.mask_downscaling\.6": r"prompt_encoder.mask_embed.conv3",
    rf"{_MASK}\.(iou_token|mask_tokens|obj_score_token|conv_s0|conv_s1)": r"mask_decoder.\1",
    rf"{_MASK}\.output_upscaling\.0": r"mask_decoder.upscale_conv1",
    rf"{_MASK}\.output_upscaling\.1": r"mask_decoder.upscale_layer_norm",
    rf"{_MASK}\.output_upscaling\.3": r"mask_decoder.upscale_conv2",
    rf"{_TWO_WAY}\.norm([1-4])": r"mask_decoder.transformer.layers.\1.layer_norm\2",
    rf"{_MASK}\.transformer\.norm_final_attn": r"mask_decoder.transformer.layer_norm_final_attn",
    rf"{_MEMORY}\.norm([1-3])": r"memory_attention.layers.\1.layer_norm\2",
    rf"{_MEMORY}\.(linear[12])": r"memory_attention.layers.\1.\2",
    r"memory_attention\.norm": r"memory_attention.layer_norm",
    r"memory_encoder\.pix_feat_proj": r"memory_encoder.feature_projection",
    r"memory_encoder\.out_proj": r"memory_encoder.projection",
    rf"{_FUSER}\.dwconv": r"memory_encoder.memory_fuser.layers.\1.depthwise_conv",
    rf"{_FUSER}\.norm": r"memory_encoder.memory_fuser.layers.\1.layer_norm",
    rf"{_FUSER}\.pwconv([12])": r"memory_encoder.memory_fuser.layers.\1.pointwise_conv\2",
}
# Original attention to ours; q_proj, k_proj and v_proj keep their names, out_proj becomes o_proj.
_ATTENTIONS = {
    rf"{_TWO_WAY}\.(self_attn|cross_attn_\w+)": r"mask_decoder.transformer.layers.\1.\2",
    rf"{_MASK}\.transformer\.(final_attn_token_to_image)": r"mask_decoder.transformer.\1",
    rf"{_MEMORY}\.(self_attn|cross_attn_image)": r"memory_attention.layers.\1.\2",
}
# Original MLP of 2 layers to ours.
_MLPS = {
    rf"{_BLOCK}\.mlp": r"vision_encoder.backbone.blocks.\1.mlp",
    rf"{_TWO_WAY}\.mlp": r"mask_decoder.transformer.layers.\1.mlp",
}
# Original MLP of 3 layers to ours.
_HEADS = {
    r"obj_ptr_proj": r"object_pointer_proj",
    _HYPER: r"mask_decoder.output_hypernetworks_mlps.\1",
    rf"{_MASK}\.iou_prediction_head": r"mask_decoder.iou_prediction_head",
    rf"{_MASK}\.pred_obj_score_head": r"mask_decoder.pred_obj_score_head",
}
# Parameters that are not a module's weight or bias.
_PARAMETERS = {
    r"maskmem_tpos_enc": r"memory_temporal_positional_encoding",
    r"no_mem_embed": r"no_memory_embedding",
    r"no_mem_pos_enc": r"no_memory_positional_encoding",
    r"no_obj_ptr": r"no_object_pointer",
    r"no_obj_embed_spatial": r"occlusion_spatial_embedding_parameter",
    r"image_encoder\.trunk\.(pos_embed|pos_embed_window)": r"vision_encoder.backbone.\1",
    rf"{_FUSER}\.gamma": r"memory_encoder.memory_fuser.layers.\1.scale",
}
_POINTS = tuple(f"sam_prompt_encoder.point_embeddings.{n}.weight" for n in range(4))
_GAUSSIAN = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"


def _rules() -> list[tuple[re.Pattern[str], str]]:
    modules = dict(_MODULES)
    for theirs, ours in _ATTENTIONS.items():
        modules |= {rf"{theirs}\.{x}_proj": rf"{ours}.{x}_proj" for x in "qkv"}
        modules[rf"{theirs}\.out_proj"] = rf"{ours}.o_proj"
    for theirs, ours in _MLPS.items():
        modules |= {rf"{theirs}\.layers\.{n}": rf"{ours}.{x}" for n, x in enumerate(("proj_in", "proj_out"))}
    for theirs, ours in _HEADS.items():
        members = ("proj_in", "layers.0", "proj_out")
        modules |= {rf"{theirs}\.layers\.{n}": rf"{ours}.{x}" for n, x in enumerate(members)}
    theirs, ours = r"memory_encoder\.mask_downsampler\.encoder", "memory_encoder.mask_downsampler"
    for step in range(_DOWNSAMPLER_STEPS):  # each step is a convolution, a norm and an activation
        modules[rf"{theirs}\.{3 * step}"] = f"{ours}.layers.{step}.conv"
        modules[rf"{theirs}\.{3 * step + 1}"] = f"{ours}.layers.{step}.layer_norm"
    modules[rf"{theirs}\.{3 * _DOWNSAMPLER_STEPS}"] = f"{ours}.final_conv"
    named = {rf"{a}\.(?P<leaf>weight|bias)": rf"{b}.\g<leaf>" for a, b in modules.items()}
    return [(re.compile(a), b) for a, b in (named | _PARAMETERS).items()]


_RULES = _rules()


def state_dict_from_original(
    state: Mapping[str, Tensor], source: str = "the checkpoint"
) -> dict[str, Tensor]:
    """The same tensors under transformers' names.

    The four point embeddings ``(1, C)`` become one ``(4, C)``; the random Fourier matrix of the prompt
    encoder is used a second time for the image-wide position code.

    Args:
        state: tensors by original name.
        source: what the tensors came from, for messages.

    Raises:
        WeightsUnavailable: names are not those of SAM2, or point embeddings are missing.
    """
    converted, unknown = {}, []
    for name, tensor in state.items():
        if name in _POINTS or name == _GAUSSIAN:
            continue
        ours = _renamed(name)
        if ours is None:
            unknown.append(name)
        else:
            converted[ours] = tensor
    absent = [name for name in (*_POINTS, _GAUSSIAN) if name not in state]
    for names, word in ((unknown, "unexpected"), (absent, "missing")):
        if names:
            raise WeightsUnavailable(
                f"{source} is no SAM2 checkpoint in original format: {len(names)} {word} weights "
                f"({', '.join(sorted(names)[:3])}); give a SAM 2.0, SAM 2.1 or MedSAM2 file, or "
                "a folder with config.json if the names are those of transformers"
            )
    converted["prompt_encoder.point_embed.weight"] = torch.cat([state[name] for name in _POINTS])
    converted["prompt_encoder.shared_embedding.positional_embedding"] = state[_GAUSSIAN]
    converted["shared_image_embedding.positional_embedding"] = state[_GAUSSIAN].clone()
    return converted


def _renamed(name: str) -> str | None:
    for pattern, ours in _RULES:
        if match := pattern.fullmatch(name):
            return match.expand(ours)
    return None


@dataclass(frozen=True)
class _Trunk:
    """What the tensors of a Hiera encoder do not show; as published with the four releases."""

    heads: int  # in the first stage, doubled at each following one
    windows: tuple[int, int, int, int]
    global_blocks: tuple[int, int, int]


# First width and blocks per stage, to the rest: tiny, small, base+, large.
_RELEASED: dict[tuple[int, tuple[int, ...]], _Trunk] = {
    (96, (1, 2, 7, 2)): _Trunk(1, (8, 4, 14, 7), (5, 7, 9)),
    (96, (1, 2, 11, 2)): _Trunk(1, (8, 4, 14, 7), (7, 10, 13)),
    (112, (2, 3, 16, 3)): _Trunk(2, (8, 4, 14, 7), (12, 16, 20)),
    (144, (2, 6, 36, 4)): _Trunk(2, (8, 4, 16, 8), (23, 33, 43)),
}


def config_from_original(state: Mapping[str, Tensor], source: str = "the checkpoint") -> Sam2VideoConfig:
    """The architecture that original-format tensors belong to, at 1024 pixels.

    Args:
        state: tensors by original name.
        source: what the tensors came from, for messages.

    Raises:
        WeightsUnavailable: a tensor that tells a size is missing, or the encoder is none of the
            four released ones, so that its heads and windows are unknown.
    """
    try:
        return _config(state)
    except KeyError as error:
        raise WeightsUnavailable(
            f"{source} is no SAM2 checkpoint in original format: {error.args[0]} is missing; "
            "give a SAM 2.0, SAM 2.1 or MedSAM2 file"
        ) from error


def _config(state: Mapping[str, Tensor]) -> Sam2VideoConfig:
    memory, decoder = "memory_attention.layers", "sam_mask_decoder"
    channels = state[f"{decoder}.iou_token.weight"].shape[1]
    fuser = state["memory_encoder.fuser.layers.0.pwconv1.weight"]
    kernel = state["memory_encoder.fuser.layers.0.dwconv.weight"].shape[-1]
    attended = state[f"{decoder}.transformer.layers.0.cross_attn_token_to_image.q_proj.weight"].shape[0]
    return Sam2VideoConfig(
        vision_config=_vision_config(state),
        prompt_encoder_config={
            "hidden_size": channels,
            "mask_input_channels": state["sam_prompt_encoder.mask_downscaling.3.weight"].shape[0],
        },
        mask_decoder_config={
            "hidden_size": channels,
            "mlp_dim": state[f"{decoder}.transformer.layers.0.mlp.layers.0.weight"].shape[0],
            "num_hidden_layers": _count(state, f"{decoder}.transformer.layers"),
            "attention_downsample_rate": channels // attended,
            "num_multimask_outputs": state[f"{decoder}.mask_tokens.weight"].shape[0] - 1,
            "iou_head_hidden_dim": state[f"{decoder}.iou_prediction_head.layers.0.weight"].shape[0],
        },
        num_maskmem=state["maskmem_tpos_enc"].shape[0],
        enable_occlusion_spatial_embedding="no_obj_embed_spatial" in state,
        enable_temporal_pos_encoding_for_object_pointers="obj_ptr_tpos_proj.weight" in state,
        memory_attention_hidden_size=channels,
        memory_attention_num_layers=_count(state, memory),
        memory_attention_feed_forward_hidden_size=state[f"{memory}.0.linear1.weight"].shape[0],
        memory_encoder_hidden_size=state["memory_encoder.pix_feat_proj.weight"].shape[0],
        memory_encoder_output_channels=state["maskmem_tpos_enc"].shape[-1],
        mask_downsampler_embed_dim=state["memory_encoder.mask_downsampler.encoder.12.weight"].shape[0],
        memory_fuser_num_layers=_count(state, "memory_encoder.fuser.layers"),
        memory_fuser_embed_dim=fuser.shape[1],
        memory_fuser_intermediate_dim=fuser.shape[0],
        memory_fuser_kernel_size=kernel,
        memory_fuser_padding=kernel // 2,
    )


def _vision_config(state: Mapping[str, Tensor]) -> dict[str, object]:
    trunk = "image_encoder.trunk"
    count = _count(state, f"{trunk}.blocks")
    per_block = [state[f"{trunk}.blocks.{n}.attn.proj.weight"].shape[0] for n in range(count)]
    widths = sorted(set(per_block))
    blocks = tuple(per_block.count(width) for width in widths)
    released = _RELEASED.get((state[f"{trunk}.patch_embed.proj.weight"].shape[0], blocks))
    if released is None:
        raise WeightsUnavailable(
            f"the encoder has widths {widths} and blocks {list(blocks)}, which is none of SAM2's tiny, "
            "small, base-plus and large: its heads and windows are unknown; convert it to a transformers "
            "folder or give the configuration"
        )
    return {
        "model_type": "sam2_vision_model",
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": widths[0],
            "num_attention_heads": released.heads,
            "embed_dim_per_stage": widths,
            "blocks_per_stage": list(blocks),
            "num_attention_heads_per_stage": [released.heads * 2**stage for stage in range(len(widths))],
            "window_size_per_stage": list(released.windows),
            "global_attention_blocks": list(released.global_blocks),
            "window_positional_embedding_background_size": list(state[f"{trunk}.pos_embed"].shape[-2:]),
        },
        "backbone_channel_list": widths[::-1],
        "fpn_hidden_size": state["image_encoder.neck.convs.0.conv.weight"].shape[0],
    }


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many members a numbered sequence of modules has."""
    start = len(prefix) + 1
    return len({name[start:].split(".")[0] for name in state if name.startswith(f"{prefix}.")})
