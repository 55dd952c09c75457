"""Codes for classes: SNOMED CT where the name is exactly that of a coded structure, else a private code."""

import hashlib
import re
from dataclasses import dataclass

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

ANATOMY = Code("123037004", "SCT", "Anatomical Structure")
ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
_SIDES = {
    "left": Code("7771000", "SCT", "Left"),
    "right": Code("24028007", "SCT", "Right"),
    "l": Code("7771000", "SCT", "Left"),
    "r": Code("24028007", "SCT", "Right"),
}
_PRIVATE = "99UNPROMPTED"  # coding schemes that begin with 99 are private
_LISTS = ((7151, ANATOMY), (7159, ABNORMAL))  # context groups of what segments show: organs, lesions


@dataclass(frozen=True)
class ClassCode:
    """What a class is, in codes.

    Attributes:
        category: kind of structure.
        type: the structure.
        side: left or right, None where the name says neither.
    """

    category: Code
    type: Code
    side: Code | None = None


def code_of(name: str) -> ClassCode:
    """The code of a class name; never one that is merely similar.

    "Left kidney" and "kidney_left" are Kidney with the modifier Left.
    """
    words = re.findall(r"[a-z0-9]+", name.casefold())
    sides = [word for word in words if word in _SIDES]
    if len(sides) == 1:
        words.remove(sides[0])
    for group, category in _LISTS:
        concepts = getattr(codes, f"cid{group}")
        for keyword in concepts.dir():
            code = getattr(concepts, keyword)
            if re.findall(r"[a-z0-9]+", code.meaning.casefold()) == words:
                return ClassCode(category, code, _SIDES[sides[0]] if len(sides) == 1 else None)
    value = hashlib.sha256(name.encode()).hexdigest()[:16]
    return ClassCode(ANATOMY, Code(value, _PRIVATE, name[:64] or "unnamed"))
