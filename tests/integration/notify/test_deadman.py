"""The dead-man ping as an operator has it: it comes while its process lives, and no sooner than all is well."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from fakes.bell import hanging_bell
from fakes.harbour import TWO_ACCOUNTS
from fakes.installation import Installation, eventually

from coldharbour import loader, settings

SECRET = "s3cretping"
ALONE = "[workers.deadman]\nenabled = true\ninterval_s = 0.1\n"


def others_off(folder: Path, *but: str) -> str:
    """Return the tables that leave the dead man alone, or with some."""
    file = folder / "all.toml"
    file.write_text(TWO_ACCOUNTS)
    kinds = loader.load_plugins(settings.load(file, {})).workers.keys() - {"deadman", "notifications", *but}
    return "".join(f"[workers.{kind}]\nenabled = false\n" for kind in sorted(kinds))


def test_it_pings_while_its_process_lives_and_never_names_the_address(database_url: str, tmp_path: Path) -> None:
    with hanging_bell() as bell:
        url = f"http://127.0.0.1:{bell.port}/{SECRET}"
        installation = Installation(tmp_path, database_url, ALONE + others_off(tmp_path), {"DEADMAN_URL": url})

        with installation.started("run", "--service", "notify") as running:
            eventually(lambda: len(bell.rung) >= 3, what=running.said)
            bell.answers = 500
            eventually(lambda: "worker.retrying" in running.said(), what=running.said)
            bell.answers = 200
            rung = len(bell.rung)
            eventually(lambda: len(bell.rung) > rung, what=running.said)

            os.kill(running.process.pid, signal.SIGKILL)
            running.process.wait()
            rung = len(bell.rung)
            said = running.said()

        time.sleep(0.5)  # five intervals: what is proved is that nothing comes
        assert len(bell.rung) == rung
        assert {path for path, _ in bell.rung} == {f"/{SECRET}"}
        assert "answers with 500" in said
        assert SECRET not in said


def test_there_is_no_ping_while_a_worker_does_not_run(database_url: str, tmp_path: Path) -> None:
    with hanging_bell() as bell:
        environ = {"DEADMAN_URL": f"http://127.0.0.1:{bell.port}/{SECRET}"}
        installation = Installation(tmp_path, database_url, ALONE + others_off(tmp_path, "heartbeat"), environ)

        with installation.started("run", "--service", "notify") as running:
            eventually(lambda: "heartbeat@paper never ran" in running.said(), what=running.said)

        assert bell.rung == []
