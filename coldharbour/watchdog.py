"""The loop watchdog: a thread that notices a blocked event loop, names the worker, and ends a hopeless process."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

WARN_AFTER_S = 0.25
EXIT_AFTER_S = 10.0
BEAT_S = 0.05
LAST_WORDS_S = 1.0
EXIT_CODE = 3

log = structlog.get_logger(__name__)


class LoopWatchdog:
    """Watches one running event loop from a thread; `longest_lag_s` is what the loop was late at most."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, exit_after_s: float = EXIT_AFTER_S) -> None:
        self._loop = loop
        self._exit_after_s = exit_after_s
        self._loop_thread_id = threading.get_ident()
        self._beat_at = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="loop-watchdog", daemon=True)
        self.longest_lag_s = 0.0

    @contextmanager
    def watching(self) -> Iterator[LoopWatchdog]:
        """Watch while the block runs."""
        self._beat()
        self._thread.start()
        try:
            yield self
        finally:
            self._stopped.set()

    def _beat(self) -> None:
        self._beat_at = time.monotonic()
        if not self._stopped.is_set():
            self._loop.call_later(BEAT_S, self._beat)

    def _watch(self) -> None:
        reported = False
        while not self._stopped.wait(BEAT_S):
            lag_s = time.monotonic() - self._beat_at - BEAT_S
            self.longest_lag_s = max(self.longest_lag_s, lag_s)
            if lag_s > self._exit_after_s:
                self._end_process(lag_s)
            elif lag_s > WARN_AFTER_S and not reported:
                # Told by another thread: what blocks the loop may hold the log, and this one must go on watching.
                threading.Thread(target=self._report, args=[lag_s], name="loop-watchdog-report", daemon=True).start()
            reported = lag_s > WARN_AFTER_S

    def _report(self, lag_s: float) -> None:
        frame = sys._current_frames().get(self._loop_thread_id)
        where = traceback.format_stack(frame)[-1].strip() if frame else "unknown"
        log.warning("loop.blocked", lag_s=round(lag_s, 2), task=self._task_name(), where=where)

    def _task_name(self) -> str:
        task = asyncio.current_task(self._loop)
        return task.get_name() if task else "none"

    def _end_process(self, lag_s: float) -> None:
        threading.Timer(LAST_WORDS_S, os._exit, [EXIT_CODE]).start()  # if the log is held, end without a word
        log.critical("loop.dead", lag_s=round(lag_s, 1), task=self._task_name(), exit_code=EXIT_CODE)
        faulthandler.dump_traceback(file=sys.stderr)
        sys.stderr.flush()
        os._exit(EXIT_CODE)  # the loop cannot run any clean-up; whoever started us starts us again
