"""What lies in an output folder beside the masks: who made them, how sure, and what is finished.

OUT/CASE.nii.gz       labels, in the format of the image
OUT/labels.json       class names and colours
OUT/quality.csv       predicted Dice of every class and case; quality and size of every mask, slice by slice
OUT/run.json          what was run, and how each case ended
OUT/overlays/CASE.png for people to look at
OUT/explain/CASE.csv  which support every slice was given, and CASE.png; where asked for
OUT/cases/CASE.json   written last: a case with one is finished
"""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from unprompted import __version__
from unprompted.datasets.base import CaseFiles
from unprompted.datasets.pairing import listed
from unprompted.errors import UsageError
from unprompted.images import LabelMap
from unprompted.io.atomic import replacing
from unprompted.io.base import result_path
from unprompted.io.labels import write_label_names
from unprompted.prediction import PredictedDice, Prediction

RUN, QUALITY, CASES, OVERLAYS, EXPLAIN = "run.json", "quality.csv", "cases", "overlays", "explain"
QUALITY_FIELDS = (
    "case", "slice", "class", "quality", "pixels", "predicted_dice", "own_dice", "round_trip", "review",
)  # fmt: skip
Status = Literal["written", "finished before", "failed", "not reached"]


@dataclass(frozen=True)
class Outcome:
    """How one case ended.

    Attributes:
        case: its name.
        status: "finished before" means by an earlier run of equal configuration.
        output: name of what was written, None for a failed case.
        quality: mean over the classes found, None where none was found.
        predicted_dice: mean over the classes that can be judged, None where none can.
        review: classes that someone should look at.
        elapsed_s: seconds it took.
        error: what went wrong.
        exit_code: of a program that fails for this.
    """

    case: str
    status: Status
    output: str | None = None
    quality: float | None = None
    predicted_dice: float | None = None
    review: tuple[str, ...] = ()
    elapsed_s: float = 0.0
    error: str | None = None
    exit_code: int = 0


@dataclass(frozen=True, eq=False)
class Records:
    """The records of one output folder under one configuration.

    Attributes:
        folder: the output folder.
        configuration: everything that decides the masks, the images aside.
        classes: label value to class name.
        explain: whether to write which support every slice was given.
    """

    folder: Path
    configuration: Mapping[str, Any]
    classes: Mapping[int, str]
    explain: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 of the configuration."""
        return _sha256(json.dumps(self.configuration, sort_keys=True).encode())

    def finished(self, queries: Sequence[CaseFiles]) -> dict[str, Outcome]:
        """The cases an earlier run of the same configuration finished.

        Raises:
            UsageError: a result is there that was made in another way, or by another program.
        """
        earlier = _json_of(self.folder / RUN)
        if earlier and earlier.get("configuration_digest") != self.digest:
            raise UsageError(
                f"{self.folder} holds the results of another configuration "
                f"({_differences(earlier.get('configuration', {}), self.configuration)}); "
                "use --overwrite or another folder"
            )
        found, others = {}, []
        for case in queries:
            target = _target(self.folder, case)
            if target is None or not target.exists():
                continue
            record = _json_of(self._sidecar(case.name))
            if record and self._made(record, case):
                found[case.name] = _outcome(case.name, "finished before", record)
            elif not earlier or (record and record.get("configuration_digest") == self.digest):
                others.append(target.name)  # else an interrupted run of this configuration left it
        if others:
            raise UsageError(
                f"{self.folder} holds results that were not made from these images with this "
                f"configuration: {listed(others)}; use --overwrite or another folder"
            )
        return found

    def begin(self) -> None:
        """Write what is run and the class names, before the first case."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_label_names(self.folder, dict(self.classes))
        write_json(self.folder / RUN, self.report([]))

    def case_is_written(
        self,
        case: CaseFiles,
        output: str,
        prediction: Prediction,
        sliced: LabelMap,
        judged: Sequence[PredictedDice],
    ) -> Outcome:
        """Record a finished case; `sliced` are its labels cut along the slice axis."""
        slices = _slices(prediction, sliced, self.classes)
        means = {name: _mean(entry["quality"], entry["pixels"]) for name, entry in slices.items()}
        known = [value for value in means.values() if value is not None]
        quality = round(float(np.mean(known)), 4) if known else None
        record = {
            "configuration_digest": self.digest,
            "image_sha256": image_digest(case.image),
            "output": output,
            "quality": quality,
            "class_quality": means,
            "predicted_dice": {one.name: asdict(one) | {"review": one.review} for one in judged},
            "elapsed_s": prediction.provenance.elapsed_s,
            "provenance": asdict(prediction.provenance) | {"backbone": self.configuration["backbone"]},
            "slices": slices,
        }
        write_json(self._sidecar(case.name), record)
        return _outcome(case.name, "written", record)

    def end(self, outcomes: Sequence[Outcome]) -> None:
        """Write the quality of all finished cases, and how every case ended."""
        self.write_quality()
        write_json(self.folder / RUN, self.report(outcomes))

    def write_quality(self) -> None:
        """Write the quality of all finished cases."""
        rows = []
        for path in sorted((self.folder / CASES).glob("*.json")):
            record = _json_of(path)
            if record and record.get("configuration_digest") == self.digest:
                rows += _rows(path.stem, record)
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(QUALITY_FIELDS)
        writer.writerows(rows)
        with replacing(self.folder / QUALITY) as partial:
            partial.write_text(table.getvalue(), encoding="utf-8")

    def report(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """The run as JSON types."""
        states = ("written", "finished before", "failed", "not reached")
        return {
            "unprompted": __version__,
            "configuration_digest": self.digest,
            "configuration": dict(self.configuration),
            "counts": {state: sum(o.status == state for o in outcomes) for state in states},
            "cases": [asdict(outcome) for outcome in outcomes],
        }

    def _sidecar(self, name: str) -> Path:
        return self.folder / CASES / f"{name}.json"

    def _made(self, record: Mapping[str, Any], case: CaseFiles) -> bool:
        same = record.get("configuration_digest") == self.digest
        return same and record.get("image_sha256") == image_digest(case.image)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def image_digest(image: Path) -> str:
    """SHA-256 over the bytes of an image file, or of a folder of frames with their names."""
    if image.is_file():
        return _sha256(image.read_bytes())
    parts = [f"{f.name} {_sha256(f.read_bytes())}" for f in sorted(image.iterdir()) if f.is_file()]
    return _sha256("\n".join(parts).encode())


def _target(folder: Path, case: CaseFiles) -> Path | None:
    try:
        return result_path(folder, case.name, case.image)
    except Exception:  # a damaged image fails when its turn comes, and with the right words
        return None


def _outcome(case: str, status: Status, record: Mapping[str, Any]) -> Outcome:
    judged = record.get("predicted_dice", {})  # records of earlier versions have none
    return Outcome(
        case,
        status,
        record["output"],
        record["quality"],
        _predicted_mean(record),
        tuple(name for name, entry in judged.items() if entry["review"]),
        record["elapsed_s"],
    )


def _predicted_mean(record: Mapping[str, Any]) -> float | None:
    known = [e["dice"] for e in record.get("predicted_dice", {}).values() if e["dice"] is not None]
    return round(float(np.mean(known)), 4) if known else None


def _slices(prediction: Prediction, sliced: LabelMap, classes: Mapping[int, str]) -> dict[str, Any]:
    found = {}
    for k, (value, name) in enumerate(sorted(classes.items())):
        pixels = (sliced.labels == value).sum(axis=(1, 2))
        quality = [round(float(q), 4) for q in prediction.quality[:, k]]
        found[name] = {"quality": quality, "pixels": [int(n) for n in pixels]}
    return found


def _mean(quality: Sequence[float], pixels: Sequence[int]) -> float | None:
    """Mean quality of the slices that show a class, None where no slice does."""
    shown = [q for q, n in zip(quality, pixels, strict=True) if n]
    return round(float(np.mean(shown)), 4) if shown else None


def _rows(case: str, record: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Rows of `QUALITY_FIELDS`: every slice and class, then the means over the slices that show one."""
    rows: list[tuple[Any, ...]] = []
    entries, blank = record["slices"].items(), ("", "", "", "")
    for name, entry in entries:
        pairs = zip(entry["quality"], entry["pixels"], strict=True)
        rows += [(case, n, name, quality, pixels, *blank) for n, (quality, pixels) in enumerate(pairs, 1)]
    rows.sort(key=lambda row: row[1])  # stable: classes stay in order
    review = False
    for name, entry in entries:
        judged = record.get("predicted_dice", {}).get(name, {})
        review |= judged.get("review", False)
        told = *(judged.get(part) for part in ("dice", "own", "round_trip")), _yes(judged.get("review"))
        rows.append((case, "mean", name, record["class_quality"][name], sum(entry["pixels"]), *told))
    pixels = sum(sum(entry["pixels"]) for _, entry in entries)
    told = _predicted_mean(record), None, None, _yes(review)
    rows.append((case, "mean", "mean", record["quality"], pixels, *told))
    return rows


def _yes(flag: bool | None) -> str:
    return "yes" if flag else ""


def _differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    there, here = _flat(earlier), _flat(now)
    names = [name for name in here if there.get(name) != here[name]]
    shown = [f"{name} was {there.get(name)}, is {here[name]}" for name in names[:3]]
    return "; ".join(shown) or "of an older format"


def _flat(entries: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in entries.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {before + name: value}
    return flat


def _json_of(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
