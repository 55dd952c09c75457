"""Codes for classes: SNOMED CT where the name is exactly that of a coded structure, else a private code."""

import hashlib
import re
from dataclasses import dataclass

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

ANATOMY = Code("123037004", "SCT", "Anatomical Structure")
_LEFT, _RIGHT = Code("7771000", "SCT", "Left"), Code("24028007", "SCT", "Right")
_BOTH = Code("51440002", "SCT", "Right and left")
_SIDES = {"left": _LEFT, "right": _RIGHT, "l": _LEFT, "r": _RIGHT}
_PRIVATE = "99UNPROMPTED"  # coding schemes that begin with 99 are private
_LISTS = (  # context groups of what segments show (DICOM PS3.16), and the kind that each of them is of
    (7192, ANATOMY),
    (7194, Code("49755003", "SCT", "Morphologically Abnormal Structure")),
    (7193, Code("260787004", "SCT", "Physical object")),
    (7191, Code("85756007", "SCT", "Tissue")),
    (7197, Code("91720002", "SCT", "Body Substance")),
)
_SAME = {  # other words, and spellings, for the very structure that is coded
    "oesophagus": "esophagus", "oedema": "edema", "haemorrhage": "hemorrhage", "gall bladder": "gallbladder",
    "urinary bladder": "bladder", "prostate gland": "prostate", "thyroid gland": "thyroid",
    "suprarenal gland": "adrenal gland", "postcava": "inferior vena cava", "ivc": "inferior vena cava",
    "tumor": "neoplasm", "tumour": "neoplasm",
}  # fmt: skip
_PAIRS = {"kidneys": "kidney", "lungs": "lung", "adrenal glands": "adrenal gland", "clavicles": "clavicle"}


@dataclass(frozen=True)
class ClassCode:
    """What a class is, in codes.

    Attributes:
        category: kind of structure.
        type: the structure.
        side: left, right or both; None where the name says none of these.
    """

    category: Code
    type: Code
    side: Code | None = None


def code_of(name: str) -> ClassCode:
    """The code of a class name; never one that is merely similar.

    "Left kidney" and "kidney_left" are Kidney with Left, "kidneys" is Kidney with Right and left.
    """
    words = _words_of(name)
    sides = [word for word in words if word in _SIDES]
    side = _SIDES[sides[0]] if len(sides) == 1 else None
    if side is not None:
        words.remove(sides[0])
    called = " ".join(words)
    if side is None and called in _PAIRS:
        called, side = _PAIRS[called], _BOTH
    called = _SAME.get(called, called)
    for group, category in _LISTS:
        concepts = getattr(codes, f"cid{group}")
        for keyword in concepts.dir():
            code = getattr(concepts, keyword)
            if " ".join(_words_of(code.meaning)) == called:
                return ClassCode(category, code, side)
    value = hashlib.sha256(name.encode()).hexdigest()[:16]
    return ClassCode(ANATOMY, Code(value, _PRIVATE, name[:64] or "unnamed"))


def _words_of(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.casefold())
