"""Imports point down only: the table of the architecture, held against the source."""

import subprocess
import sys

import pytest
from source import imports, modules

from unprompted.registry import METHODS

NOUNS = {
    "catalogue", "errors", "geometry", "images", "intensity", "launched", "palette", "prediction",
    "ranks", "registry", "slices", "support",
}  # fmt: skip
FACADE = {"loading", "quality", "segmenter", "task"}
CONTRACTS = {"backbones.base", "backbones.adapted", "methods.base", "training.checkpoint"}
MODEL = {f"backbones.{name}" for name in ("base", "adapted", "sam2", "lora", "prior")}
BLOCKS = {"methods.base", "methods.similarity", "methods.support_memory"}  # shared by methods, not methods

# Layer, top first: what it may import besides itself and the standard library. A name covers what lies
# below it: "backbones" every backbone, "backbones.base" the contract alone.
OURS = {
    "apps": {
        "evaluation",
        "adaptation",
        "refinement",
        "engine",
        "methods",
        "training",
        "backbones",
        "datasets",
        "io",
    }
    | FACADE
    | NOUNS,
    "evaluation": {"datasets", "io", "refinement.settings"} | FACADE | NOUNS,
    "peers": {"engine", "training", "io"} | FACADE | CONTRACTS | NOUNS,
    "facade": {"adaptation", "refinement", "engine"} | CONTRACTS | NOUNS,
    "refinement": {"engine", "methods", "training"} | MODEL | NOUNS,
    "engine": CONTRACTS | NOUNS,
    "methods": {"adaptation", "training"} | MODEL | NOUNS,
    "adaptation": {"training", "backbones"} | BLOCKS | NOUNS,
    "training": {"backbones", "datasets"} | NOUNS,
    "backbones": {"errors"},
    "datasets": {"io"} | NOUNS,
    "io": NOUNS,
    "nouns": set(),
}
LIBRARIES = {
    "apps": {"numpy", "typer", "rich", "ray", "fastapi", "starlette", "uvicorn", "pydantic"},
    "evaluation": {"numpy", "scipy", "surface_distance", "pydantic", "matplotlib"},
    "peers": {"numpy", "scipy", "torch", "monai", "SimpleITK", "nibabel"},
    "facade": {"numpy", "torch", "safetensors", "pydantic"},
    "adaptation": {"torch", "accelerate"},
    "refinement": {"torch"},
    "engine": {"numpy", "torch"},
    "methods": {"numpy", "scipy", "torch", "lpips"},
    "training": {"numpy", "torch", "safetensors"},
    "backbones": {"torch", "transformers", "safetensors", "huggingface_hub", "peft"},
    "datasets": {"numpy"},
    "io": {
        "numpy",
        "nibabel",
        "SimpleITK",
        "PIL",
        "av",
        "h5py",
        "fsspec",
        "pydicom",
        "highdicom",
        "dicomweb_client",
        "keyring",
        "requests",
    },
    "nouns": {"numpy"},
}
# The generated dataset is drawn by the generator that pretraining uses; it is imported when a case is
# loaded, so that listing datasets stays free of torch.
EXCEPTIONS = {("datasets.synthetic", "training.synth")}
HEAVY = [
    "torch", "transformers", "nibabel", "SimpleITK", "PIL", "av", "h5py", "pydicom", "highdicom", "requests",
    "pydantic", "typer", "rich",
]  # fmt: skip


def layer_of(name):
    first = name.split(".")[0].replace("__main__", "apps")
    if first in NOUNS:
        return "nouns"
    return "facade" if first in FACADE else first


def covers(allowed, target):
    return any(target == name or target.startswith(f"{name}.") for name in allowed)


def ours():
    return [(i, i.target[1:]) for i in imports() if i.target.startswith(".") and i.importer]


def libraries():
    found = [(i, i.target.split(".")[0]) for i in imports() if not i.target.startswith(".")]
    return [(i, name) for i, name in found if name not in sys.stdlib_module_names]


def told(found):
    return [f"{i.importer} line {i.line} imports {i.target}" for i in found]


def test_every_module_belongs_to_a_layer():
    assert {layer_of(module.name) for module in modules() if module.name} == set(OURS)


def test_imports_point_down_only():
    wrong = [
        i
        for i, target in ours()
        if target
        and layer_of(target) != layer_of(i.importer)
        and not covers(OURS[layer_of(i.importer)], target)
        and (i.importer, target) not in EXCEPTIONS
    ]
    assert told(wrong) == []


def test_each_library_is_used_in_its_own_layer():
    wrong = [i for i, name in libraries() if i.importer and name not in LIBRARIES[layer_of(i.importer)]]
    assert told(wrong) == []


def test_the_package_itself_imports_nothing_but_the_standard_library():
    assert (
        told(i for i in imports() if not i.importer and not i.for_types_only and i.target.startswith("."))
        == []
    )
    assert told(i for i, _ in libraries() if not i.importer) == []


def test_every_exception_is_still_needed():
    assert {(i.importer, target) for i, target in ours()} >= EXCEPTIONS


def test_transformers_stays_among_the_backbones():
    assert {layer_of(i.importer) for i, name in libraries() if name == "transformers"} == {"backbones"}


@pytest.mark.parametrize("layer", ["apps", "evaluation", "datasets", "io", "nouns"])
def test_torch_is_not_imported_above_the_facade_or_below_the_models(layer):
    assert told(i for i, name in libraries() if name == "torch" and layer_of(i.importer) == layer) == []


def test_no_method_imports_another():
    registered = {path.split(":")[0].removeprefix("unprompted.") for path in METHODS.values()}
    wrong = [
        i
        for i, target in ours()
        if target in registered and layer_of(i.importer) == "methods" and not i.for_types_only
    ]
    assert told(wrong) == []


def test_the_programs_share_nothing_but_the_batch():
    def program(name):
        name = name.replace("__main__", "apps.cli")
        return name.split(".")[1] if name.count(".") else ""

    wrong = [
        i
        for i, target in ours()
        if layer_of(i.importer) == layer_of(target) == "apps"
        and program(target) not in ("batch", program(i.importer))
        and not (program(i.importer) == "cli" and program(target) == "review")  # it starts the page
    ]
    assert told(wrong) == []


def loaded_by(statement):
    code = f"import sys; {statement}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    ).stdout.split()


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import unprompted") == []


def test_the_nouns_load_nothing_heavy():
    assert loaded_by("import " + ", ".join(f"unprompted.{name}" for name in sorted(NOUNS))) == []


def test_listing_what_is_registered_loads_nothing_heavy():
    listing = "[list(r.items()) for r in (r.METHODS, r.BACKBONES, r.DATASETS, r.READERS)]"
    assert loaded_by(f"from unprompted import registry as r; {listing}") == []


def test_evaluation_loads_no_torch():
    assert not {"torch", "transformers"} & set(loaded_by("import unprompted.evaluation.folders"))
