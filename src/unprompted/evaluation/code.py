"""Which code made a result: a digest that comments, docstrings and layout leave alone."""

import ast
import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

_ENGINE = "unprompted.engine.passes"
_NO_CODE = ("unprompted", "unprompted.registry", "unprompted.errors")  # lists and names, not arithmetic


@lru_cache
def code_digest(*modules: str) -> str:
    """The digest of modules with everything of this package they import, and of the engine that runs them."""
    reached: dict[str, str] = {}
    waiting = [*modules, _ENGINE]
    while waiting:
        name = waiting.pop()
        if name in reached or name in _NO_CODE:
            continue
        path = _source(name)
        if path is None:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        waiting += _imported(tree)
        reached[name] = ast.dump(_without_docstrings(tree))
    whole = hashlib.sha256()
    for name in sorted(reached):
        whole.update(f"{name}\n{reached[name]}\n".encode())
    return whole.hexdigest()[:12]


def _imported(tree: ast.Module) -> list[str]:
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("unprompted"):
            found.append(node.module)
    return found


def _source(name: str) -> Path | None:
    spec = find_spec(name)
    return Path(spec.origin) if spec is not None and spec.origin else None


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
    return tree
