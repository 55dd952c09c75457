"""What a sweep may hold in memory at a time, and how that is chosen for a given room."""

from dataclasses import dataclass

from unprompted.backbones.base import POINTER_FRAMES, TOKEN_FRAMES, Backbone
from unprompted.errors import UsageError

# Measured on SAM 2.1 tiny at 512 pixels and on the built-in model at 256 (peak over resident, one thread).
_ENCODER_BYTES = 400  # of activations, a pixel of input
_COPIES = 14  # of an object's memory at the width of attention: keys, values, both turned and their parts
_RESERVE = 96 << 20  # reading, writing, and what the allocator keeps
_MOST_FRAMES = 8
_MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What one sweep may hold at a time; results do not depend on it beyond rounding.

    Attributes:
        frames: frames encoded at once.
        kept_bytes: of encoded frames kept for when they are needed again; further ones are encoded again.
        objects: classes that memory attention and the decoder take at once; None for all of them.
    """

    frames: int = _MOST_FRAMES
    kept_bytes: int = 256 * _MIB
    objects: int | None = None

    @classmethod
    def within(cls, room: int, backbone: Backbone, objects: int) -> "Limits":
        """The limits for what memory is left.

        Args:
            room: bytes beyond what the process holds with the model and the support loaded.
            backbone: the model.
            objects: K.

        Raises:
            UsageError: one frame of one class does not fit.
        """
        side, cells = backbone.input_size, (backbone.input_size // 16) ** 2
        frame = _ENCODER_BYTES * side * side
        attended = _COPIES * (TOKEN_FRAMES + 1) * cells * backbone.channels * 4
        remembered = objects * (POINTER_FRAMES + 1) * cells * backbone.memory_width * 4
        free = room - _RESERVE - remembered
        if free < frame + attended:
            short = (frame + attended - free) // _MIB + 1
            raise UsageError(
                f"the memory limit leaves {max(room, 0) // _MIB} MiB for a sweep at {side} pixels with "
                f"{objects} classes; raise it by {short} MiB at least, or take a smaller --input-size"
            )
        several = max(1, free // 2 // attended)
        kept = min(cls.kept_bytes, free // 4)
        at_once = min(_MOST_FRAMES, max(1, free // 4 // frame))
        return cls(at_once, kept, None if several >= objects else several)


DEFAULT_LIMITS = Limits()
