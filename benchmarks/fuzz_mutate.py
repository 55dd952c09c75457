"""Ways to spoil a file: bytes anywhere, bytes inside its compression, tensors, and entries of JSON."""

import gzip
import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

_NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63)
_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 2**31, 1e308, float("nan"), "", "../../escape", "/etc/passwd", "x" * 300, [], {},
)  # fmt: skip


def spoil(path: Path, chance: random.Random) -> None:
    """Change a file in one of the ways that suit it."""
    name = path.name.lower()
    if name.endswith(".json") and chance.random() < 0.7:
        path.write_text(json.dumps(_json(json.loads(path.read_text()), chance)))
    elif name.endswith("original.pt") and chance.random() < 0.5:
        state = _tensors(torch.load(path, weights_only=True)["model"], chance)
        torch.save({"model": state}, path)
    elif name.endswith(".safetensors") and chance.random() < 0.5:
        save_file(_tensors(load_file(path), chance), path)
    elif name.endswith(".gz") and chance.random() < 0.7:
        path.write_bytes(gzip.compress(_bytes(gzip.decompress(path.read_bytes()), chance), 1))
    elif zipfile.is_zipfile(path) and path.stat().st_size < 2**20 and chance.random() < 0.7:
        path.write_bytes(_archive(path, chance))
    else:
        path.write_bytes(_bytes(path.read_bytes(), chance))


def _bytes(content: bytes, chance: random.Random) -> bytes:
    spoiled = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        if not spoiled:
            break
        end = min(len(spoiled), chance.choice((16, 128, 512, len(spoiled))))  # most of what matters is early
        at = chance.randrange(end)
        way = chance.randrange(7)
        if way == 0:
            spoiled[at] ^= 1 << chance.randrange(8)
        elif way == 1:
            spoiled[at] = chance.randrange(256)
        elif way == 2:
            size, order = chance.choice((1, 2, 4, 8)), chance.choice(("little", "big"))
            number = chance.choice(_NUMBERS) % 256**size
            spoiled[at : at + size] = number.to_bytes(size, order)
        elif way == 3:
            del spoiled[chance.randrange(len(spoiled)) :]
        elif way == 4:
            del spoiled[at : at + chance.randrange(1, 64)]
        elif way == 5:
            spoiled[at:at] = chance.randbytes(chance.randrange(1, 64))
        else:
            start = chance.randrange(len(spoiled))
            spoiled[at:at] = spoiled[start : start + chance.randrange(1, 256)]
    return bytes(spoiled)


def _archive(path: Path, chance: random.Random) -> bytes:
    """The archive with one member spoiled, renamed or doubled, and its checksums right."""
    packed = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w") as target:
        entries = source.infolist()
        victim, way = chance.choice(entries), chance.randrange(6)
        for entry in entries:
            content, name = source.read(entry), entry.filename
            if entry is victim and way == 0:
                name = chance.choice(("../escape.npy", "/tmp/escape.npy", ".", name.upper()))
            elif entry is victim and way > 1:
                content = _bytes(content, chance)
            target.writestr(name, content, entry.compress_type)
            if entry is victim and way == 1:
                target.writestr(f"{name}.again", content, entry.compress_type)
    return packed.getvalue()


def _tensors(state: dict[str, torch.Tensor], chance: random.Random) -> dict[str, torch.Tensor]:
    state = dict(state)
    for _ in range(min(len(state), chance.choice((1, 2, 3)))):
        name = chance.choice(sorted(state))
        tensor, way = state.pop(name), chance.randrange(7)
        if way == 0:
            continue
        if way == 1:
            name = name[: chance.randrange(1, len(name))]
        shapes = {2: (0,), 3: (), 4: tuple(tensor.shape)[::-1], 5: (*tensor.shape, 1)}
        if way in shapes:
            tensor = torch.zeros(shapes[way])
        if way == 6:
            tensor = torch.full(tensor.shape, float("nan")).to(chance.choice((torch.float16, torch.int64)))
        state[name] = tensor.contiguous()
    return state


def _json(content: Any, chance: random.Random) -> Any:
    """The same with one entry, anywhere, taken away or made something else."""
    if isinstance(content, dict) and content:
        key = chance.choice(sorted(content))
        if chance.random() < 0.15:
            return {k: v for k, v in content.items() if k != key}
        if chance.random() < 0.1:
            return {str(chance.choice(_VALUES)) if k == key else k: v for k, v in content.items()}
        return content | {key: _json(content[key], chance)}
    if isinstance(content, list) and content and chance.random() < 0.8:
        at = chance.randrange(len(content))
        return [*content[:at], _json(content[at], chance), *content[at + 1 :]]
    if isinstance(content, int) and chance.random() < 0.5:
        return chance.choice((-content, content + 1, content * 1000, chance.choice(_NUMBERS)))
    return chance.choice(_VALUES)
