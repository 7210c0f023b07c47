"""The walls of the house, read from the sources: who may import whom, where SQL stands, what modules are called."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("broker", "feed", "lake", "live", "metrics", "risk", "web")  # in the order of the flow
KERNEL_FOLDERS = {"embedded", "requests", "schema"}
LIBRARY = "coldharbour"  # its __init__.py offers other programs what stages compute, so it imports them
SHAPELESS = {"utils", "util", "helpers", "helper", "manager", "common", "misc", "data"}
SQL_ELSEWHERE = {
    "coldharbour/db.py": "begins transactions and sends NOTIFY, for whichever tables",
    "coldharbour/embedded/keeper.py": "creates the role and the database of a new server, before there is any table",
    "coldharbour/leases.py": "asks whether its own connection still lives",
    "coldharbour/listen.py": "LISTEN and UNLISTEN belong to a connection, not to a table",
    "coldharbour/schema/__init__.py": "takes the upgrade's lock and calls the function that makes partitions",
}
SENDS_SQL = {"execute", "executemany", "copy"}
STATEMENT = re.compile(
    r"\s*(select\s.+\sfrom\s|insert\s+into\s|update\s+\S+\s+(as\s+\w+\s+)?set\s|delete\s+from\s|with\s+\w+\s+as\s*\("
    r"|(create|alter|drop|truncate)\s+(table|schema|index|function|database|role|sequence)\s|copy\s+\S+\s*(\(|from|to)\s)",
    re.DOTALL | re.IGNORECASE,
)


def product() -> list[Path]:
    """Return the modules of the product: the kernel, the stages and the built-in plugins."""
    return sorted(path for folder in ("coldharbour", "plugins", "templates") for path in (ROOT / folder).rglob("*.py"))


def everything() -> list[Path]:
    """Return all modules of the repository."""
    folders = ("benchmarks", "docs", "tests", "web-assets")
    return product() + sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), place(path))


def name_of(path: Path) -> str:
    """Return what a module of the product is imported as."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    folder = {"plugins": "coldharbour_plugins", "templates": "coldharbour_templates"}.get(parts[0], parts[0])
    return ".".join(part for part in (folder, *parts[1:]) if part != "__init__")


def room_of(module: str) -> str | None:
    """Return where a module belongs: a stage's name, "kernel", None for what is not below `coldharbour`."""
    package, _, rest = module.partition(".")
    if package != "coldharbour":
        return None
    first = rest.partition(".")[0]
    return first if first in STAGES else "kernel"


def imports(path: Path, *, typing_too: bool = True) -> Iterator[tuple[int, str]]:
    """Yield (line, module) of every import, wherever in the file it stands; a name may stand for a module."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    for node in _walk(tree(path), typing_too=typing_too):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            outer = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*outer, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def _walk(node: ast.AST, *, typing_too: bool) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if typing_too or not _is_for_types(child):
            yield from _walk(child, typing_too=typing_too)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def test_every_folder_of_the_package_is_a_stage_or_the_kernels() -> None:
    folders = {path.parent.name for path in (ROOT / "coldharbour").glob("*/__init__.py")}

    assert folders <= {*STAGES, *KERNEL_FOLDERS}


def test_a_stage_imports_only_itself_earlier_stages_and_the_kernel() -> None:
    backwards = [
        f"{place(path)}:{line}: {module}"
        for path in product()
        if (own := room_of(name_of(path))) in STAGES
        for line, module in imports(path)
        if (other := room_of(module)) in STAGES and STAGES.index(other) > STAGES.index(own)
    ]

    assert backwards == []


def test_the_kernel_imports_no_stage_at_run_time() -> None:
    upwards = [
        f"{place(path)}:{line}: {module}"
        for path in product()
        if room_of(name_of(path)) == "kernel" and name_of(path) != LIBRARY
        for line, module in imports(path, typing_too=False)
        if room_of(module) in STAGES
    ]

    assert upwards == []


def test_the_product_reaches_plugins_through_their_entry_points_alone() -> None:
    behind_the_door = [
        f"{place(path)}:{line}: {module}"
        for path in product()
        if name_of(path).partition(".")[0] == "coldharbour"
        for line, module in imports(path)
        if module.partition(".")[0] == "coldharbour_plugins"
    ]

    assert behind_the_door == []


def test_plugins_never_import_each_other() -> None:
    def plugin(module: str) -> str:
        return module.split(".")[1] if module.startswith("coldharbour_plugins.") else ""

    gossip = [
        f"{place(path)}:{line}: {module}"
        for path in product()
        if (own := plugin(name_of(path)))
        for line, module in imports(path)
        if plugin(module) not in ("", own)
    ]

    assert gossip == []


class TestSql:
    @staticmethod
    def statements(path: Path) -> Iterator[int]:
        """Yield the lines where a statement is written out: as text, as sql.SQL, or as what is sent at once."""
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and node.args:
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if called == "SQL" or (called in SENDS_SQL and isinstance(node.args[0], ast.Constant | ast.JoinedStr)):
                    yield node.lineno
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and STATEMENT.match(node.value):
                yield node.lineno

    def test_it_stands_in_store_files_and_in_infrastructure_that_says_why(self) -> None:
        places = {place(path) for path in product() if path.name != "store.py" and any(self.statements(path))}

        assert places == set(SQL_ELSEWHERE)

    def test_it_is_composed_and_never_formatted(self) -> None:
        formatted = [
            f"{place(path)}:{node.lineno}"
            for path in product()
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SENDS_SQL
            for argument in node.args[:1]
            if isinstance(argument, ast.JoinedStr | ast.BinOp)
        ]

        assert formatted == []


def test_a_module_begins_with_what_it_owns() -> None:
    silent = [place(path) for path in everything() if not _opens_with_a_sentence(tree(path))]

    assert silent == []


def _opens_with_a_sentence(module: ast.Module) -> bool:
    docstring = ast.get_docstring(module) or ""
    return module.body[:1] != [] and module.body[0].lineno == 1 and docstring.partition("\n")[0].endswith((".", "?"))


def test_nothing_prints() -> None:
    printed = [
        f"{place(path)}:{node.lineno}"
        for path in product()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "pprint")
    ]

    assert printed == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [place(path) for path in everything() if {path.stem, path.parent.name} & SHAPELESS] == []
