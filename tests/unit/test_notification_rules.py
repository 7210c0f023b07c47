"""When a message goes out, and when the installation is well."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from coldharbour_plugins.notify.health import ailing
from coldharbour_plugins.notify.messages import Message, Outbox
from fakes.room import HEALTHY

from coldharbour.store import WorkerRow

NOW = datetime(2026, 10, 8, 16, tzinfo=UTC)
WELL = replace(HEALTHY, kind="stream", updated_at=NOW, since=NOW - timedelta(hours=1))
EXPECTED = {("paper", "stream")}
PATIENCE = timedelta(minutes=5)


def about(matter: str) -> Message:
    return Message((matter,), matter, "text")


def test_one_matter_goes_out_again_after_a_while() -> None:
    outbox = Outbox(repeat_s=60, per_hour=10)

    sent = [outbox.admit(about("a"), now_s) is not None for now_s in (0, 59, 60, 61)]

    assert sent == [True, False, True, False]


def test_the_message_after_a_flood_says_how_many_were_left_out() -> None:
    outbox = Outbox(repeat_s=0, per_hour=2)

    sent = [outbox.admit(about(f"{now_s}"), now_s) for now_s in (0, 1, 2, 3, 3599, 3600, 3601)]

    assert [bool(each) for each in sent] == [True, True, False, False, False, True, True]
    assert sent[5] == ("3600", "text\n3 more were left out; the journal has them.")
    assert sent[6] == ("3601", "text")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (WELL, None),
        (replace(WELL, state="sleeping"), None),
        (replace(WELL, state="paused"), None),
        (replace(WELL, state="retrying", since=NOW - timedelta(minutes=5)), None),
        (replace(WELL, state="retrying", since=NOW - timedelta(minutes=6)), "stream@paper is retrying"),
        (replace(WELL, state="gave_up"), "stream@paper is gave_up"),
        (replace(WELL, updated_at=NOW - timedelta(seconds=31)), "stream@paper is silent"),
        (replace(WELL, destination="swing"), "stream@paper never ran"),
    ],
)
def test_the_installation_is_well_while_every_worker_is(row: WorkerRow, why: str | None) -> None:
    assert ailing([row], EXPECTED, NOW, PATIENCE) == why
