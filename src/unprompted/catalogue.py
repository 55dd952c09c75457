"""What is plugged in, read from source text: listing it imports none of it, and so no torch."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from unprompted.registry import Registry

_FACTORY = re.compile(r"field\(default_factory=(\w+)\)")


@dataclass(frozen=True)
class Setting:
    """One field of a plug-in.

    Attributes:
        name: the word for ``--set``.
        kind: its type as written.
        default: as written, None where it has none.
        meaning: from the docstring of the class.
    """

    name: str
    kind: str
    default: str | None
    meaning: str


@dataclass(frozen=True)
class Entry:
    """One registered class or function.

    Attributes:
        name: the registered name.
        summary: first line of its docstring.
        settings: its dataclass fields.
        constants: class attributes of literal value, such as ``paper``; of a tuple, its literal parts.
    """

    name: str
    summary: str
    settings: tuple[Setting, ...]
    constants: dict[str, Any]


def entries(registry: Registry) -> list[Entry]:
    """Everything in a registry, in its order, without importing any of it."""
    return [_entry(name, path) for name, path in registry.items()]


def _entry(name: str, path: str) -> Entry:
    module, attribute = path.split(":")
    spec = find_spec(module)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return Entry(name, path, (), {})
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == attribute:
            text = ast.get_docstring(node) or ""
            body = node.body if isinstance(node, ast.ClassDef) else []
            return Entry(name, text.split("\n")[0], tuple(_settings(body, text)), dict(_constants(body)))
    return Entry(name, path, (), {})


def _settings(body: list[ast.stmt], text: str) -> Iterator[Setting]:
    meanings = _attributes(text)
    for node in body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        kind = ast.unparse(node.annotation)
        if kind.startswith("ClassVar"):
            continue
        default = _FACTORY.sub(r"\1()", ast.unparse(node.value)) if node.value else None
        name = node.target.id
        yield Setting(name, kind, default, meanings.get(name, ""))


def _constants(body: list[ast.stmt]) -> Iterator[tuple[str, Any]]:
    target: ast.expr
    value: ast.expr | None
    for node in body:
        if isinstance(node, ast.AnnAssign):
            if not ast.unparse(node.annotation).startswith("ClassVar"):
                continue
            target, value = node.target, node.value
        elif isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
        else:
            continue
        if isinstance(target, ast.Name):
            if isinstance(value, ast.Tuple):
                yield target.id, tuple(part.value for part in value.elts if isinstance(part, ast.Constant))
            elif isinstance(value, ast.Constant):
                yield target.id, value.value


def _attributes(text: str) -> dict[str, str]:
    """The ``Attributes:`` section of a docstring, name to meaning on one line."""
    _, _, section = text.partition("Attributes:\n")
    found: dict[str, str] = {}
    name = ""
    for line in section.split("\n"):
        indent = len(line) - len(line.lstrip())
        if line.strip() and indent < 4:
            break
        match = re.match(r"    (\w+): (.*)", line)
        if match and indent == 4:
            name = match[1]
            found[name] = match[2].strip()
        elif name and line.strip():
            found[name] += " " + line.strip()
    return found
