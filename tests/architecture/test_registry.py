import ast

import pytest
from source import docstrings, modules

from unprompted.errors import UsageError
from unprompted.registry import BACKBONES, DATASETS, METHODS, PEERS, READERS, Registry

ALL = [(registry, name) for registry in (METHODS, BACKBONES, DATASETS, PEERS, READERS) for name in registry]


@pytest.mark.parametrize(("registry", "name"), ALL, ids=[f"{r.kind} {n}" for r, n in ALL])
def test_every_entry_can_be_loaded(registry, name):
    assert callable(registry.load(name))


@pytest.mark.parametrize(
    ("registry", "name"), [(r, n) for r, n in ALL if r in (METHODS, DATASETS, PEERS, READERS)]
)
def test_a_registered_name_is_its_file_stem(registry, name):
    module = registry[name].split(":")[0]
    assert module.rsplit(".", 1)[1] == name.replace("-", "_")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_names_its_paper_whether_it_trains_and_what_it_takes(name):
    kind = METHODS.load(name)
    assert kind.paper
    assert isinstance(kind.needs_training, bool)
    assert set(kind.inputs) <= {"volumes", "slices", "images", "videos"}
    assert kind.inputs


def test_an_unknown_name_is_refused_with_those_known():
    with pytest.raises(UsageError, match=r"no method is called 'sam3'; known: .*ofl-sam2.*sam2-mask"):
        METHODS.load("sam3")


def test_a_registry_is_a_mapping_in_the_order_it_was_written():
    registry = Registry("toy", {"b": "json:dumps", "a": "json:loads"})
    assert list(registry) == ["b", "a"]
    assert len(registry) == 2
    assert "a" in registry
    assert "c" not in registry
    assert registry.load("a")("[1]") == [1]


def test_registered_names_are_written_nowhere_else():
    registered = {*METHODS, *DATASETS, *PEERS}
    found = []
    for module in modules():
        if module.name == "registry":
            continue
        skipped = docstrings(module.tree)
        found += [
            f"{module.name} line {node.lineno}: {node.value!r}"
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Constant) and node.value in registered and id(node) not in skipped
        ]
    assert found == []
