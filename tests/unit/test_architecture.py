"""The walls: data flows one way, the kernel knows no stage, plugins know no other plugin, SQL stays in its files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAGES = ("broker", "feed", "lake", "live", "metrics", "risk", "web")  # as the data flows
SQL = re.compile(
    r"\s*(select\s|insert into\s|update\s+[\w.{}]+\s+(as\s+\w+\s+)?set\s|delete from\s|truncate\s|copy\s+[\w.{}]+\s*(\(|from|to)"
    r"|with\s+\w+\s+as\s*\(|(create|alter|drop)\s+(table|schema|index|function|database|role|sequence)\s|(un)?listen\s)",
    re.IGNORECASE,
)
MAY_IMPORT_A_STAGE = {"__init__.py": "the library's front door re-exports what other programs import"}
MAY_HOLD_SQL = {
    "coldharbour/db.py": "begins transactions and sends notifications",
    "coldharbour/leases.py": "asks whether its session is alive",
    "coldharbour/listen.py": "listens, and asks whether its session is alive",
    "coldharbour/schema/__init__.py": "applies the migrations",
    "coldharbour/embedded/keeper.py": "creates the role and the database of a new server",
}
Import = tuple[str, int]


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def run_time_imports(path: Path) -> Iterator[Import]:
    """Yield every import that really happens, as the absolute module and its line."""
    package = shown(path.parent).replace("/", ".").replace("plugins", "coldharbour_plugins", 1)

    def walk(node: ast.AST) -> Iterator[Import]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*parents, *([node.module] if node.module else [])])
            yield module, node.lineno
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)
        for child in ast.iter_child_nodes(node):
            yield from walk(child)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")))


def stage_of(module: str) -> str | None:
    """Return the stage that a module belongs to, None for the kernel and for others' packages."""
    parts = module.split(".")
    return parts[1] if parts[0] == "coldharbour" and len(parts) > 1 and parts[1] in STAGES else None


def plugin_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "coldharbour_plugins" and len(parts) > 1 else None


def test_every_folder_of_the_product_is_a_known_stage_or_a_part_of_the_kernel() -> None:
    folders = {path.parent.name for path in (ROOT / "coldharbour").glob("*/__init__.py")}

    assert folders - set(STAGES) == {"embedded", "schema"}


def test_a_stage_imports_only_itself_what_comes_before_it_and_the_kernel() -> None:
    wrong = [
        f"{shown(path)}:{line} imports {module}"
        for stage in STAGES
        for path in modules(f"coldharbour/{stage}")
        for module, line in run_time_imports(path)
        if plugin_of(module) or STAGES.index(stage_of(module) or stage) > STAGES.index(stage)
    ]

    assert wrong == []


def test_the_kernel_imports_no_stage_and_no_plugin() -> None:
    kernel = [*(ROOT / "coldharbour").glob("*.py"), *modules("coldharbour/schema", "coldharbour/embedded")]
    wrong = [
        f"{shown(path)}:{line} imports {module}"
        for path in kernel
        for module, line in run_time_imports(path)
        if (stage_of(module) or plugin_of(module)) and path.name not in MAY_IMPORT_A_STAGE
    ]

    assert wrong == []


def test_no_plugin_imports_another() -> None:
    wrong = [
        f"{shown(path)}:{line} imports {module}"
        for path in modules("plugins")
        for module, line in run_time_imports(path)
        if plugin_of(module) not in (None, path.relative_to(ROOT / "plugins").parts[0].removesuffix(".py"))
    ]

    assert wrong == []


def test_sql_stands_in_store_files_and_migrations_only() -> None:
    wrong = [
        f"{shown(path)}:{line}: {text.split()[:4]}"
        for path in modules("coldharbour", "plugins", "templates")
        if path.name != "store.py" and shown(path) not in MAY_HOLD_SQL
        for text, line in texts(path)
        if SQL.match(text)
    ]

    assert wrong == []


def texts(path: Path) -> Iterator[tuple[str, int]]:
    """Yield every text of a module that is no documentation, with its line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value, node.lineno


@pytest.mark.parametrize("name", sorted(MAY_HOLD_SQL))
def test_no_exception_outlives_its_reason(name: str) -> None:
    assert any(SQL.match(text) for text, _ in texts(ROOT / name)), "it holds no SQL any more: remove it from the list"


@pytest.mark.parametrize("path", modules("coldharbour", "plugins", "templates"), ids=shown)
def test_every_module_opens_with_what_it_owns(path: Path) -> None:
    documentation = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))

    assert documentation, "a module's first line says what it owns and what it never does"
    assert documentation.splitlines()[0].endswith((".", "?"))
