"""The source of the package as syntax trees: nothing is imported to look at it."""

import ast
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2] / "src" / "unprompted"


class Module(NamedTuple):
    name: str  # below the package: "methods.base"
    tree: ast.Module


class Import(NamedTuple):
    importer: str
    target: str  # "torch.nn", or below the package with a leading dot: ".methods.base"
    line: int
    for_types_only: bool


@cache
def modules():
    found = []
    for file in sorted(ROOT.rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found.append(Module(name, ast.parse(file.read_text(encoding="utf-8"), str(file))))
    return tuple(found)


@cache
def names():
    return frozenset(module.name for module in modules())


@cache
def imports():
    return tuple(found for module in modules() for found in _imports_of(module))


def _imports_of(module):
    guarded = {
        id(node)
        for block in ast.walk(module.tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(module.tree):
        for target in _targets(node):
            yield Import(module.name, target, node.lineno, id(node) in guarded)


def _targets(node):
    if isinstance(node, ast.Import):
        return [_below(alias.name) for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: imports are absolute"
        base = _below(node.module)
        if not base.startswith("."):
            return [base]
        # "from unprompted.apps.cli import render" imports a module, "from unprompted.errors import X" a name.
        inner = [f"{base.rstrip('.')}.{alias.name}" for alias in node.names]
        return [name if name[1:] in names() else base for name in inner]
    return []


def _below(name):
    package, _, rest = name.partition(".")
    return f".{rest}" if package == "unprompted" else name


def docstrings(tree):
    """The ids of constants that are docstrings."""
    return {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
        and isinstance(node.body[0].value, ast.Constant)
    }
