import ast
import inspect
from pathlib import Path

import pytest
from source import modules

import unprompted
from unprompted.registry import READERS

ROOT = Path(__file__).parents[2]


def test_the_public_surface_is_exactly_this():
    assert unprompted.__all__ == [
        "__version__",
        "Adaptation",
        "Example",
        "FittedSegmenter",
        "Grid",
        "LabelMap",
        "Prediction",
        "Segmenter",
        "SupportSet",
        "UnpromptedError",
        "Views",
        "Volume",
        "load_backbone",
        "read_image",
        "read_labels",
        "write_labels",
    ]
    assert len(unprompted.__all__) <= 15 + 1


def test_every_public_name_is_there_with_a_docstring():
    for name in unprompted.__all__[1:]:
        thing = getattr(unprompted, name)
        assert thing.__name__ == name
        assert inspect.getdoc(thing)


def test_dir_shows_the_public_surface():
    assert dir(unprompted) == sorted(unprompted.__all__)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'segment'"):
        unprompted.segment  # noqa: B018


def test_names_for_type_checkers_are_those_at_run_time():
    (package,) = [module.tree for module in modules() if not module.name]
    (block,) = [node for node in package.body if isinstance(node, ast.If)]
    typed = {alias.name for statement in block.body for alias in statement.names}
    assert typed | {"__version__"} == set(unprompted.__all__)


def public(node):
    return isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_")


def test_every_public_module_class_and_function_has_a_docstring():
    missing = []
    for module in modules():
        if ast.get_docstring(module.tree) is None:
            missing.append(module.name)
        for node in filter(public, module.tree.body):
            parts = [node, *filter(public, node.body if isinstance(node, ast.ClassDef) else ())]
            missing += [f"{module.name}: {part.name}" for part in parts if ast.get_docstring(part) is None]
    assert missing == []


def test_the_docs_say_what_every_error_means_and_what_to_do():
    tree = ast.parse((ROOT / "src/unprompted/errors.py").read_text(encoding="utf-8"))
    names = [part.name for part in tree.body if isinstance(part, ast.ClassDef)]
    pages = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    assert [name for name in names if f"`{name}`" not in pages] == []


def test_every_format_has_a_page():
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs/formats").glob("*.md"))
    endings = {suffix for name in READERS for suffix in READERS.load(name).suffixes if suffix != "/"}
    assert sorted(ending for ending in endings if f"`{ending}`" not in pages) == []
