"""What is built is whole: the wheel brings everything the pages need, the repository no third-party code."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("coldharbour", "plugins", "templates", "web-assets")
FILES = ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
MAPPED = {"plugins": "coldharbour_plugins", "templates": "coldharbour_templates"}
VENDORED = {
    "htmx.min.js", "hx-sse.min.js", "htmx-LICENSE.txt", "lightweight-charts.mjs", "lightweight-charts-LICENSE.txt",
    "manifest.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, with the web assets that the development install has fetched."""
    copy = tmp_path_factory.mktemp("tree")
    for folder in SOURCES:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copyfile(ROOT / file, copy / file)
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by pip without a network."""
    out = tmp_path_factory.mktemp("wheel")
    offline = {**os.environ, "PIP_NO_INDEX": "1", "npm_config_offline": "true"}
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-build-isolation",
        "--no-deps",
        "-w",
        str(out),
        ".",
    ]
    subprocess.run(command, cwd=tree, env=offline, check=True, timeout=100)
    return next(out.glob("*.whl"))


@pytest.fixture
def backend() -> ModuleType:
    """The build backend, as a module of its own."""
    spec = importlib.util.spec_from_file_location("web_assets_backend", ROOT / "web-assets" / "backend.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_folder_of_code_is_a_listed_package() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {file.parent.relative_to(ROOT) for top in SOURCES[:3] for file in (ROOT / top).rglob("*.py")}
    found = {".".join([MAPPED.get(folder.parts[0], folder.parts[0]), *folder.parts[1:]]) for folder in folders}

    assert listed == found


def test_the_wheel_brings_code_migrations_templates_and_assets(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())

    for folder, pattern in (
        ("coldharbour", "*.py"),
        ("coldharbour", "*.sql"),
        ("plugins", "*.py"),
        ("templates", "*.*"),
    ):
        for file in (ROOT / folder).rglob(pattern):
            parts = file.relative_to(ROOT).parts
            if "__pycache__" not in parts:
                assert "/".join([MAPPED.get(parts[0], parts[0]), *parts[1:]]) in names
    assert {f"coldharbour_templates/static/vendor/{name}" for name in VENDORED} <= names
    assert not [name for name in names if name.startswith(("tests/", "web-assets/", "plugins/", "templates/"))]


def test_the_installed_wheel_finds_its_templates_and_assets(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)  # noqa: S202 - our own
    program = (
        "import coldharbour_templates; from coldharbour.web.assets import load_assets;"
        "from coldharbour.web.fragments import Fragments;"
        "print(coldharbour_templates.__file__, Fragments(load_assets()).notice(None))"
    )

    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", program], env=env, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=30
    )

    assert ran.stdout.startswith(str(tmp_path))
    assert '<div id="notice">' in ran.stdout


def test_the_source_distribution_can_build_and_holds_no_third_party_code(tree: Path, tmp_path: Path) -> None:
    program = f"import sys; sys.path.insert(0, 'web-assets'); import backend; backend.build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", program], cwd=tree, capture_output=True, check=True, timeout=60)

    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"web-assets/{name}" for name in ("backend.py", "package.json", "package-lock.json", ".npmrc")} <= names
    assert {"templates/base.html", "plugins/__init__.py", "coldharbour/schema/migrations/0001_kernel.sql"} <= names
    assert not [name for name in names if "vendor" in name or name.endswith(".min.js")]


def test_the_repository_ignores_what_is_fetched() -> None:
    assert "templates/static/vendor/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_lock_names_contents_and_no_addresses() -> None:
    lock = json.loads((ROOT / "web-assets" / "package-lock.json").read_text())
    wanted = json.loads((ROOT / "web-assets" / "package.json").read_text())["dependencies"]
    packages = {name: package for name, package in lock["packages"].items() if name}

    assert all(version[0].isdigit() for version in wanted.values())
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert not [package for package in packages.values() if "resolved" in package]


def test_fetched_files_that_changed_are_fetched_again(backend: ModuleType, tmp_path: Path) -> None:
    vendor = tmp_path / "vendor"
    shutil.copytree(backend.VENDOR, vendor)
    assert backend.is_fresh(vendor)

    (vendor / "htmx.min.js").write_text("alert(1)")

    assert not backend.is_fresh(vendor)


def test_an_offline_build_can_leave_the_assets_out(
    backend: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_ASSETS_SKIP", "1")

    assert backend.provide_assets(tmp_path / "vendor") is False
    assert not (tmp_path / "vendor").exists()
