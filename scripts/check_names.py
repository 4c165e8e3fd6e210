"""Reports names that say nothing to a reader who searches for the field's own term: `make check` runs it.

The first list holds for every name; the second for what outlives a few lines: modules, classes, functions, their
parameters, attributes and constants.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("bytebrew", "plugins", "clients/python/bytebrew_client", "examples")
EMPTY = "manager service handler adapter factory processor helper util utility utilities wrapper impl info"
GESTURES = (
    "told tell asked said given past one words thing found heard cut hopeless leftovers endings blots trial notation "
    "context"
)
TERMS = frozenset(
    [
        "NotFound",
        "ConfirmationAsked",
        "METHOD_NOT_FOUND",
        "context_window",
        "max_context_size",
        "context_size",
        "ConfirmationAsked",
        "ContextTrimmed",
        "MaxContext",
        "row_factory",
        "StartDoctypeDeclHandler",
        "StartElementHandler",
        "EndElementHandler",
        "CharacterDataHandler",
        "Trial",
        "TrialResult",
        "WORDS",
    ]
)
"""Names of HTTP, JSON-RPC, the wire, the API's document, the test kit's exports and libraries."""


def banned(words: str) -> frozenset[str]:
    """The words with their plurals."""
    return frozenset(words.split()) | frozenset(f"{word}s" for word in words.split())


def names(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Each name that a file gives, with its line and whether it outlives a few lines."""
    tree = ast.parse(path.read_text())
    yield 1, path.stem, True
    lasting = {
        id(node) for scope in ast.walk(tree) if isinstance(scope, ast.Module | ast.ClassDef) for node in scope.body
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name, True
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg, True
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr, True
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for name in (name for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)):
                yield name.lineno, name.id, id(node) in lasting
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id, False


def faults(path: Path) -> Iterator[str]:
    """What is wrong in a file, a line each."""
    empty, gestures = banned(EMPTY), banned(GESTURES)
    for line, name, lasts in names(path):
        if name in TERMS:
            continue
        words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}
        if wrong := words & (empty | gestures if lasts else empty):
            yield f"{path.relative_to(ROOT)}:{line}: '{name}' ({', '.join(sorted(wrong))}): use the field's own term"


def main() -> None:
    """Prints every fault; exit code 1 where there is one."""
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    lines = [line for path in files for line in dict.fromkeys(faults(path))]
    print("\n".join(lines))
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
