"""What an evaluation leaves in its folder: JSON for programs, CSV for spreadsheets, a table for people."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unprompted.evaluation.summary import COUNTS, FLAGS, scores_of
from unprompted.io.atomic import replacing

SUMMARY, ROWS, TABLE = "summary.json", "metrics.csv", "summary.md"
_SHOWN = {"Dice": 3, "IoU": 3, "NSD": 3, "HD95": 1, "HD": 1, "MASD": 2, "volume_error_ml": 2}  # decimals
_HEADS = {"HD95": "HD95 mm", "HD": "HD mm", "MASD": "MASD mm", "volume_error_ml": "volume error ml"}


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write ``summary.json``, ``metrics.csv`` with one row a case and class, and ``summary.md``."""
    _write(folder / SUMMARY, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    _write(folder / ROWS, _rows(summary))
    _write(folder / TABLE, _page(summary))


def class_table(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The means per class and over all, as text: columns and rows."""
    scores = [name for name in scores_of(summary["tolerance_mm"]) if name in _SHOWN]
    columns = ["class", "Dice", "95 %", "SD", *(_head(name, summary) for name in scores[1:])]
    columns += ["cases", "missed", "spurious", "both empty"]
    rows = []
    for value, entry in summary["mean"].items():
        rows.append([summary["classes"].get(value, value), *_cells(entry, scores)])
    overall = {**summary["foreground_mean"], "n": summary["n_cases"]}
    rows.append(["mean of classes", *_cells(overall, scores)])
    return columns, rows


def case_table(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Dice of every case and class, as text; a class in neither prediction nor reference is a dash."""
    classes = summary["classes"]
    rows = [
        [case["case"], *(number(case["metrics"][value]["Dice"]) for value in classes)]
        for case in summary["metric_per_case"]
    ]
    return ["Dice", *classes.values()], rows


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose columns but the first are aligned to the right."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def number(value: float | None, decimals: int = 3) -> str:
    """A score as text, a dash where there is none."""
    return "-" if value is None else f"{value:.{decimals}f}"


def interval(entry: Mapping[str, Any], name: str = "Dice", decimals: int = 3) -> str:
    """The 95 % interval of a score as text, a dash where there is none."""
    found = entry.get(f"{name}_ci95")
    return "-" if found is None else f"{found[0]:.{decimals}f}-{found[1]:.{decimals}f}"


def _head(name: str, summary: Mapping[str, Any]) -> str:
    return f"NSD {summary['tolerance_mm']:g} mm" if name == "NSD" else _HEADS.get(name, name)


def _cells(entry: Mapping[str, Any], scores: Sequence[str]) -> list[str]:
    counts = (entry["n"], entry["n_missed"], entry["n_spurious"], entry["n_both_empty"])
    dice = [number(entry["Dice"]), interval(entry), number(entry["Dice_sd"])]
    return [*dice, *(number(entry[name], _SHOWN[name]) for name in scores[1:]), *map(str, counts)]


def _rows(summary: Mapping[str, Any]) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    keys = (*scores_of(summary["tolerance_mm"]), *COUNTS, *FLAGS)
    writer.writerow(("case", "class", *keys))
    for case in summary["metric_per_case"]:
        for value, name in summary["classes"].items():
            entry = case["metrics"][value]
            writer.writerow((case["case"], name, *(entry[key] for key in keys)))
    return table.getvalue()


def _page(summary: Mapping[str, Any]) -> str:
    meanings = "\n".join(f"- {name}: {text}" for name, text in summary["definitions"].items())
    parts = [
        f"# {summary['n_cases']} cases",
        markdown_table(*class_table(summary)),
        markdown_table(*case_table(summary)),
        meanings,
    ]
    return "\n\n".join(parts) + "\n"


def _write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
