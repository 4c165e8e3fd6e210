"""The public surface is exact, documented, and named in the project's own words."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import bytebrew

ROOT = Path(__file__).parents[2]
CORE = sorted(ROOT.glob("bytebrew/**/*.py"))
OUTSIDE = ("plugins", "clients/python/bytebrew_client", "examples")
WRITTEN = [*CORE, *(path for folder in OUTSIDE for path in sorted(ROOT.glob(f"{folder}/**/*.py")))]
BANNED = {"manager", "service", "handler", "adapter", "factory", "processor", "helper", "util", "wrapper", "impl"}
BANNED |= {f"{word}s" for word in BANNED} | {"utility", "utilities", "info", "infos"}


def module_of(path: Path) -> ModuleType:
    dotted = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    return importlib.import_module(dotted.removesuffix(".__init__"))


def public(module: ModuleType) -> Iterator[tuple[str, object]]:
    """The classes and functions of a module, and the methods of its classes."""
    for name, thing in vars(module).items():
        if name.startswith("_") or not (inspect.isclass(thing) or inspect.isfunction(thing)):
            continue
        if thing.__module__ == module.__name__:
            yield name, thing
            for inner, method in vars(thing).items():
                if not inner.startswith("_") and (inspect.isfunction(method) or isinstance(method, property)):
                    yield f"{name}.{inner}", getattr(thing, inner)


def names_in(path: Path) -> Iterator[tuple[int, str]]:
    """Every name that a file gives to something."""
    yield 0, path.stem
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            yield node.lineno, node.attr


def test_all_lists_every_name_that_the_front_imports_in_order() -> None:
    tree = ast.parse((ROOT / "bytebrew" / "__init__.py").read_text())
    imported = [
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module != "typing"
        for alias in node.names
    ]
    constants_classes_functions = sorted(imported, key=lambda name: (not name.isupper(), name[0].islower(), name))
    assert bytebrew.__all__ == constants_classes_functions
    assert all(hasattr(bytebrew, name) for name in bytebrew.__all__)


@pytest.mark.parametrize("name", bytebrew.__all__)
def test_what_the_front_exports_has_a_docstring_of_its_own(name: str) -> None:
    thing = getattr(bytebrew, name)
    if inspect.isclass(thing) or inspect.isfunction(thing):
        assert thing.__doc__, f"bytebrew.{name} says nothing of itself"
        assert not any(thing.__doc__ == base.__doc__ for base in getattr(thing, "__mro__", ())[1:])


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_and_all_that_is_public_in_it_begin_with_one_sentence(path: Path) -> None:
    module = module_of(path)
    for name, thing in (("the module", module), *public(module)):
        words = inspect.getdoc(thing)
        assert words, f"{path.name}: {name} has no docstring"
        first = words.partition("\n")[0]
        assert re.fullmatch(r"[A-Z`][^\n]*\.", first), f"{path.name}: {name} begins with no sentence: {first!r}"


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_of_the_core_is_longer_than_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_name_is_one_of_the_banned_words(path: Path) -> None:
    for line, name in names_in(path):
        words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
        assert not {word.lower() for word in words} & BANNED, f"{path}:{line} names something {name}"
