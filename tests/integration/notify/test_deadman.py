"""The dead-man ping as an operator has it: it comes while its process lives, and no sooner than all is well."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from fakes.bell import hanging_bell
from fakes.installation import Installation, eventually

SECRET = "s3cretping"
OTHERS = (
    "backfill", "breakeven", "cash_flows", "closed_trades", "equity", "group_limit", "healing", "heartbeat", "metrics",
    "prices", "protection", "schedule", "simulator", "snapshot", "stream", "web",
)  # fmt: skip
ALONE = "[workers.deadman]\nenabled = true\ninterval_s = 0.1\n"


def off(*kinds: str) -> str:
    return "".join(f"[workers.{kind}]\nenabled = false\n" for kind in kinds)


def test_it_pings_while_its_process_lives_and_never_names_the_address(database_url: str, tmp_path: Path) -> None:
    with hanging_bell() as bell:
        url = f"http://127.0.0.1:{bell.port}/{SECRET}"
        installation = Installation(tmp_path, database_url, ALONE + off(*OTHERS), {"DEADMAN_URL": url})

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
        kept = [kind for kind in OTHERS if kind != "heartbeat"]
        installation = Installation(tmp_path, database_url, ALONE + off(*kept), environ)

        with installation.started("run", "--service", "notify") as running:
            eventually(lambda: "heartbeat@paper never ran" in running.said(), what=running.said)

        assert bell.rung == []
