"""The loop watchdog, in processes of their own: it names who blocks, and ends what is hopeless, whatever it holds."""

from __future__ import annotations

import subprocess
import sys
import textwrap

PRELUDE = """
    import asyncio, logging, time
    import anyio
    from coldharbour import log
    from coldharbour.sections import LogSettings
    from coldharbour.watchdog import LoopWatchdog

    log.configure(LogSettings(format="json"))

    async def block(seconds):
        time.sleep(seconds)

    async def watched(seconds):
        with LoopWatchdog(asyncio.get_running_loop(), exit_after_s=1).watching() as watchdog:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(block, seconds, name="equity@paper")
            await anyio.sleep(0.2)
        print(f"longest lag {watchdog.longest_lag_s:.1f} s")
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    source = textwrap.dedent(PRELUDE) + textwrap.dedent(script)
    return subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=30, check=False)


def test_a_loop_that_is_blocked_for_too_long_ends_its_process_with_3() -> None:
    ended = run("anyio.run(watched, 60, backend_options={'use_uvloop': True})")

    assert ended.returncode == 3
    assert '"event": "loop.dead"' in ended.stderr
    assert '"task": "equity@paper"' in ended.stderr
    assert "in block" in ended.stderr


def test_a_short_block_is_only_told_with_the_name_of_the_worker_and_the_place() -> None:
    ended = run("anyio.run(watched, 0.6)")

    assert ended.returncode == 0
    assert "longest lag 0." in ended.stdout
    [line] = [line for line in ended.stderr.splitlines() if "loop.blocked" in line]
    assert '"task": "equity@paper"' in line
    assert "in block" in line
    assert "loop.dead" not in ended.stderr


def test_a_loop_that_blocks_while_it_holds_the_log_ends_as_well() -> None:
    ended = run(
        """
        async def block(seconds):
            with logging.getLogger().handlers[0].lock:
                time.sleep(seconds)

        anyio.run(watched, 60)
        """
    )

    assert ended.returncode == 3


def test_a_loop_with_much_to_do_is_left_alone() -> None:
    ended = run(
        """
        async def block(seconds):
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                await asyncio.sleep(0)

        anyio.run(watched, 1.5)
        """
    )

    assert ended.returncode == 0
    assert ended.stderr == ""
