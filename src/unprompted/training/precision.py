"""Which numbers a device multiplies quickly."""

import torch


def quick_in_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16; without, it would only lose digits."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    # torch has no public question for processors; a build without these answers no.
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in asked)
