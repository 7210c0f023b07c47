"""The static files of the pages: read into memory once, named by their contents; nothing else is ever served."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from coldharbour.errors import BadConfig

TEMPLATES_PACKAGE = "coldharbour_templates"
CONTENT_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
FOR_EVER = "public, max-age=31536000, immutable"
ASK_AGAIN = "no-cache"


@dataclass(frozen=True, slots=True)
class Asset:
    """One static file; `version` is the start of its SHA-256."""

    content: bytes
    content_type: str
    version: str


class Assets:
    """All static files by name, as they stand below /static/."""

    def __init__(self, by_name: Mapping[str, Asset]) -> None:
        self._by_name = dict(by_name)

    def get(self, name: str) -> Asset | None:
        """Return the file of this name, None if there is none."""
        return self._by_name.get(name)

    def url(self, name: str) -> str:
        """Return the address of a file, which changes with its contents. Raises KeyError if there is none."""
        return f"/static/{name}?v={self._by_name[name].version}"


def load_assets(folder: Traversable | None = None) -> Assets:
    """Read the static files that were installed with the package.

    Raises BadConfig when the third-party scripts are missing: the package was built without them.
    """
    folder = folder or files(TEMPLATES_PACKAGE) / "static"
    vendor = folder / "vendor"
    try:
        expected = json.loads((vendor / "manifest.json").read_text(encoding="utf-8"))["files"]
        by_name = {f"vendor/{name}": _asset(vendor / name) for name in expected}
    except (OSError, ValueError, KeyError) as error:
        raise BadConfig(
            [f"the scripts of the pages are missing or damaged ({type(error).__name__} in {vendor})"],
            hint="install the package again without WEB_ASSETS_SKIP=1: pip install . (or pip install -e .)",
        ) from error
    own = (entry for entry in folder.iterdir() if entry.is_file())
    return Assets(by_name | {entry.name: _asset(entry) for entry in own})


def _asset(file: Traversable) -> Asset:
    content = file.read_bytes()
    content_type = CONTENT_TYPES.get(file.name.rpartition(".")[2], "application/octet-stream")
    return Asset(content, content_type, hashlib.sha256(content).hexdigest()[:12])
