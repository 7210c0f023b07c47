"""Whether the installation is well, from what its workers said of themselves; a pure rule."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from coldharbour.store import WorkerRow

WELL = frozenset({"ready", "sleeping", "paused"})  # paused: a person wanted it so
SILENT_AFTER = timedelta(seconds=30)  # workers report every 2 s


def ailing(
    rows: Iterable[WorkerRow], expected: Collection[tuple[str, str]], now: datetime, patience: timedelta
) -> str | None:
    """Return which expected worker is unwell and why, None if all are well.

    expected: (destination, kind). A worker is unwell that nobody reports on any more, at once, and one that has been
    in a state that is not well for longer than `patience`.
    """
    known = {(row.destination, row.kind): row for row in rows}
    for destination, kind in sorted(expected):
        row, name = known.get((destination, kind)), f"{kind}@{destination or 'installation'}"
        if row is None:
            return f"{name} never ran"
        if now - row.updated_at > SILENT_AFTER:
            return f"{name} is silent"
        if row.state not in WELL and now - row.since > patience:
            return f"{name} is {row.state}"
    return None
