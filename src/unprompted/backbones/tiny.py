"""The built-in backbone: a small SAM2 whose weights ship inside the package."""

from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import Sam2VideoConfig, Sam2VideoModel

from unprompted.backbones import shipped
from unprompted.backbones.sam2 import Sam2Backbone, load_sam2

_CODES = (
    "pos_embed",
    "pos_embed_window",
    "no_memory_embedding",
    "no_memory_positional_encoding",
    "memory_temporal_positional_encoding",
    "no_object_pointer",
    "occlusion_spatial_embedding_parameter",
)


@dataclass(frozen=True)
class TinyShape:
    """Widths and depths of a small SAM2; every module is SAM2's own class.

    Attributes:
        input_size: side of the square input in pixels.
        widths: channels of the four encoder stages, at strides 4, 8, 16 and 32.
        blocks: blocks of each stage.
        channels: C, channels of decoder, memory attention and pointers; a multiple of 64.
        memory_layers: layers of memory attention.
        decoder_mlp: hidden width in the decoder's two-way transformer.
    """

    input_size: int = 256
    widths: tuple[int, int, int, int] = (48, 96, 192, 384)
    blocks: tuple[int, int, int, int] = (1, 2, 6, 2)
    channels: int = 128
    memory_layers: int = 2
    decoder_mlp: int = 512

    def config(self) -> Sam2VideoConfig:
        """The transformers configuration of this shape."""
        third, fourth = sum(self.blocks[:2]), sum(self.blocks[:3])  # these two pool, within windows
        attend_globally = [b for b in range(third + 1, sum(self.blocks)) if b != fourth]
        side = self.input_size
        return Sam2VideoConfig(
            vision_config={
                "backbone_config": {
                    "model_type": "sam2_hiera_det_model",
                    "hidden_size": self.widths[0],
                    "num_attention_heads": 1,
                    "image_size": [side, side],
                    "blocks_per_stage": list(self.blocks),
                    "embed_dim_per_stage": list(self.widths),
                    "num_attention_heads_per_stage": [max(1, w // 48) for w in self.widths],
                    "window_size_per_stage": [8, 4, 8, 4],
                    "global_attention_blocks": attend_globally,
                },
                "backbone_channel_list": list(self.widths[::-1]),
                "backbone_feature_sizes": [[side // s, side // s] for s in (4, 8, 16)],
                "fpn_hidden_size": self.channels,
            },
            prompt_encoder_config={"hidden_size": self.channels, "image_size": side},
            mask_decoder_config={
                "hidden_size": self.channels,
                "mlp_dim": self.decoder_mlp,
                "iou_head_hidden_dim": self.channels,
            },
            image_size=side,
            memory_attention_hidden_size=self.channels,
            memory_attention_num_layers=self.memory_layers,
            memory_attention_feed_forward_hidden_size=4 * self.channels,
            memory_attention_rope_feat_sizes=[side // 16, side // 16],
            memory_attention_dropout=0.0,
            memory_attention_rope_dropout=0.0,
            memory_encoder_hidden_size=self.channels,
            mask_downsampler_embed_dim=self.channels,
            memory_fuser_embed_dim=self.channels,
            memory_fuser_intermediate_dim=4 * self.channels,
            memory_fuser_layer_scale_init_value=0.1,
            num_maskmem=7,
        )


def random_model(shape: TinyShape) -> Any:
    """A model of the given shape with random weights, from torch's global generator.

    Layers start as torch initialises them, at unit gain. transformers' own start (every weight at
    0.02) is meant for loading over: from it, features of a small model first vanish, then grow until
    they drown what memory attention adds to them.
    """
    model = Sam2VideoModel(shape.config())
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding)):
            module.reset_parameters()
    for name, parameter in model.named_parameters():
        if name.split(".")[-1] in _CODES:
            nn.init.trunc_normal_(parameter, std=0.02)
    return model


def load_builtin(
    source: str = "builtin",
    input_size: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    memory_pool: int = 1,
) -> Sam2Backbone:
    """The backbone that ships with the package; nothing is downloaded.

    Args:
        source: the registry name, kept as the backbone's name.
        input_size: side of the square input in pixels; None keeps the 256 it was trained for.
        device: where to run.
        dtype: "float32" or "bfloat16", of the large parts.
        memory_pool: side of the squares of places whose memory is averaged; 1 for none.

    Raises:
        WeightsUnavailable: the installation is damaged.
    """
    shipped.verify()
    loaded = load_sam2(str(shipped.FOLDER), input_size, device, dtype, memory_pool)
    return Sam2Backbone(loaded.model, source, memory_pool)
