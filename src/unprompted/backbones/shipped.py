"""The weights that ship inside the package, found and checked without loading them."""

from pathlib import Path

from unprompted.backbones.hub import Checked, check_sha256
from unprompted.errors import WeightsUnavailable

FOLDER = Path(__file__).parent / "builtin"
LICENCE = "Apache-2.0"


def folder() -> Path | None:
    """Where they are, None where this installation has none."""
    return FOLDER if (FOLDER / "sha256.txt").is_file() else None


def verify() -> list[Checked]:
    """The files listed in ``sha256.txt``, each with the checksum it was found to have.

    Raises:
        WeightsUnavailable: a file is missing or altered.
    """
    if folder() is None:
        raise WeightsUnavailable(f"{FOLDER} holds no weights; install the package again")
    checked = []
    for line in (FOLDER / "sha256.txt").read_text(encoding="utf-8").splitlines():
        expected, _, name = line.partition("  ")
        check_sha256(FOLDER / name, expected)
        checked.append(Checked(FOLDER / name, f"sha256:{expected}", "this package"))
    return checked
