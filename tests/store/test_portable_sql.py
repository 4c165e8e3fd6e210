"""SQL that only SQLite has stands in the dialect modules, so that a second store can run all other statements."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DIALECTS = (
    "bytebrew/store/sqlite/",
    "bytebrew/base/full_text/",
    "bytebrew/store/backups/",
    "plugins/bytebrew_postgres/",
    "plugins/bytebrew_knowledge/dialect.py",
    "plugins/bytebrew_knowledge/postgres.py",
    "plugins/bytebrew_knowledge/vectors.py",
    "plugins/bytebrew_memory/dialect.py",
    "plugins/bytebrew_memory/postgres.py",
    "plugins/bytebrew_audit/triggers.py",
    "plugins/bytebrew_feed/shared.py",
    "plugins/bytebrew_feed/triggers.py",
)
FILES = [
    path
    for folder in ("bytebrew", "plugins", "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if not path.relative_to(ROOT).as_posix().startswith(DIALECTS)
]
STATEMENT = re.compile(
    r"\b(select|insert( or \w+)? into|update|delete from)\b.*\b(from|values|set|where|select)\b", re.DOTALL
)
TABLES = re.compile(r"\b(create|drop|alter)\s+(unique\s+)?(table|index|trigger|view|virtual)\b")
"""Migrations: each store has its own."""
SQLITE_ONLY = {
    "a function of JSON": r"\bjson(_\w+)?\(",
    "a date function": r"\b(julianday|strftime|unixepoch)\(",
    "iif": r"\biif\(",
    "printf": r"\bprintf\(",
    "glob": r"\bglob '",
    "rowid": r"\browid\b",
    "FTS5": r"\bbm25\(|\bmatch \?|_fts\b",
    "insert or": r"\binsert or (replace|ignore)\b|\breplace into\b",
    "a key by null": r"\bvalues \(null\b",
    "is with a value": r"\bis (not )?(\?|:\w|')",
    "an index hint": r"\bindexed by\b",
    "limit -1": r"\blimit -1\b",
    "where 1": r"\bwhere 1\b",
    "a cross join with a condition": r"\bcross join \w+( \w+)? on\b",
    "max or min of two values": r"\b(max|min)\((?!distinct)[^()]*(\([^()]*\)[^()]*)*,",
    "a subquery without a name": r"\bfrom \(select\b[^()]*(\([^()]*\)[^()]*)*\)(?= *(where|group|order|limit|$|\)))",
    "SQLite's own tables": r"\bsqlite_(master|sequence|schema)\b|\bpragma\b",
    "an upsert of columns without their table": r"\bdo update set\b.*(\b(\w+) = \2 [+-]|\bwhere (?!\w+\.)\w+)",
    "blobs by chance": r"\brandomblob\(",
}


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Each string of a file, an f-string as a whole with `{}` for its values."""
    tree = ast.parse(path.read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "Migration"]
    migrating = {id(part) for call in calls for part in ast.walk(call)}
    joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    within = migrating | {id(part) for node in joined for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and id(node) not in migrating:
            parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in within:
            yield node.lineno, node.value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_statement_outside_the_dialect_modules_is_not_sqlites_own(path: Path) -> None:
    for line, text in texts(path):
        if not STATEMENT.search(text) or TABLES.search(text):
            continue
        for what, pattern in SQLITE_ONLY.items():
            found = re.search(pattern, text, re.DOTALL)
            assert found is None, f"{path.relative_to(ROOT)}:{line} has {what}: {found and found[0]!r}"
