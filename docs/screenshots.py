"""Makes the pictures of the documentation: starts the demo in a folder of its own, waits, and photographs it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parent
CHROMIUM = "/usr/bin/chromium"
START_S = 60.0
LIVE_FOR_S = 20.0
SIZE = (1400, 1340)
OVERVIEW_SIZE = (1400, 420)

CONFIG = """
[database]
data_dir = "{folder}/postgres"
[web]
port = {web}
[feed]
endpoint = "tcp://127.0.0.1:{prices}"
[simulator]
port = {broker}
price_endpoint = "tcp://127.0.0.1:{prices}"
state_dir = "{folder}/simulator"
[destinations.paper]
name = "Paper"
simulated = true
armed = true
initial_deposit = 60000
[destinations.swing]
name = "Swing Short"
simulated = true
armed = true
initial_deposit = 120000
"""


def main() -> None:
    """Photograph the overview and a dashboard of a running demo."""
    with tempfile.TemporaryDirectory() as folder:
        web, broker, prices = _free_ports(3)
        config = Path(folder, "demo.toml")
        config.write_text(CONFIG.format(folder=folder, web=web, broker=broker, prices=prices), encoding="utf-8")
        demo = subprocess.Popen([sys.executable, "-m", "coldharbour", "run", "--config", str(config)])  # noqa: S603
        try:
            _wait_until_ready(f"http://127.0.0.1:{web}/readyz")
            time.sleep(LIVE_FOR_S)  # a page with some life in it makes the better picture
            _photograph(f"http://127.0.0.1:{web}/", DOCS / "overview.png", OVERVIEW_SIZE)
            _photograph(f"http://127.0.0.1:{web}/paper/", DOCS / "dashboard.png", SIZE)
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(timeout=10)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310  our own page on loopback
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise SystemExit(f"{url} was not ready within {START_S:.0f} s")


def _photograph(url: str, file: Path, size: tuple[int, int]) -> None:
    width, height = size
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="dark")
        page.goto(url)
        page.get_by_text("live").first.wait_for()
        page.wait_for_timeout(3000)
        page.screenshot(path=file)
        browser.close()


if __name__ == "__main__":
    main()
