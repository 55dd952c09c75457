"""``unprompted info``: what is installed, without importing any of it."""

import sys
from dataclasses import asdict
from importlib import metadata
from typing import Any

from unprompted import catalogue
from unprompted.apps.cli import options
from unprompted.apps.cli.render import Screen
from unprompted.registry import BACKBONES, DATASETS, DEFAULT_BACKBONE, DEFAULT_METHOD, METHODS, READERS

_LIBRARIES = ("torch", "transformers", "numpy", "nibabel", "SimpleITK", "pillow", "av")


def info(json: options.AsJson = False) -> None:
    """List methods with their settings, backbones, readers, datasets and versions."""
    screen = Screen()
    content = installed()
    if json:
        screen.json(content)
        return
    licence = content["licence"]
    screen.listing(f"unprompted {content['version']}, {licence}", list(content["versions"].items()))
    for method in content["methods"]:
        trained = "trains on the support" if method["needs_training"] else "trains nothing"
        takes = f"takes {', '.join(method['inputs'])}"
        about = [method["summary"], method["paper"], trained, takes]
        screen.listing(f"method {method['name']}", [("", line) for line in about])
        rows = [(f"  {s['name']}", f"{s['default']}  {s['meaning']}") for s in method["settings"]]
        screen.listing("  settings and defaults, for --set NAME=VALUE", rows)
    screen.listing("backbones", [(f"  {b['name']}", b["summary"]) for b in content["backbones"]])
    readers = [(f"  {r['name']}", f"{' '.join(r['suffixes'])}  {r['summary']}") for r in content["readers"]]
    screen.listing("readers", readers)
    screen.listing("datasets", [(f"  {d['name']}", d["summary"]) for d in content["datasets"]])


def installed() -> dict[str, Any]:
    """All of it as JSON types."""
    package = metadata.metadata("unprompted")
    return {
        "version": package["Version"],
        "licence": package["License-Expression"],
        "defaults": {"method": DEFAULT_METHOD, "backbone": DEFAULT_BACKBONE},
        "versions": {"python": sys.version.split()[0]} | {name: _version(name) for name in _LIBRARIES},
        "methods": [
            {
                "name": entry.name,
                "summary": entry.summary,
                "paper": entry.constants.get("paper", ""),
                "needs_training": entry.constants.get("needs_training", False),
                "inputs": list(entry.constants.get("inputs", ())),
                "settings": [asdict(setting) for setting in entry.settings],
            }
            for entry in catalogue.entries(METHODS)
        ],
        "backbones": [{"name": e.name, "summary": e.summary} for e in catalogue.entries(BACKBONES)],
        "readers": [
            {"name": e.name, "summary": e.summary, "suffixes": list(e.constants.get("suffixes", ()))}
            for e in catalogue.entries(READERS)
        ],
        "datasets": [{"name": e.name, "summary": e.summary} for e in catalogue.entries(DATASETS)],
    }


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "not installed"
