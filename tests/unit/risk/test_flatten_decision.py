"""What a flatten does next: every row by hand, and any course of events at a broker that answers as it likes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldharbour.broker import NotSent, Order, OutcomeUnknown, Refused
from coldharbour.live.model import Side
from coldharbour.risk.flattening.asking import order_of
from coldharbour.risk.flattening.decision import (
    client_order_id,
    decide,
    has_news,
    next_attempt,
    seconds_left,
    why_not_begin,
    would,
)
from coldharbour.risk.flattening.model import (
    Around,
    Cancel,
    Close,
    Finish,
    Kind,
    Request,
    RequestState,
    Run,
    Scene,
    Sight,
    Step,
    Target,
    TargetState,
    Wait,
)
from coldharbour.risk.flattening.proof import answered, recovered, settled
from coldharbour.risk.losses.model import Latch, Stage, Watch
from coldharbour.sessions import MarketSession, session_of

NOW = datetime(2026, 10, 8, 16, tzinfo=UTC)
SESSION = session_of(date(2026, 10, 8), datetime(2026, 1, 1, 9, 30).time(), datetime(2026, 1, 1, 16).time())  # noqa: DTZ001
NEXT_SESSION = session_of(date(2026, 10, 9), datetime(2026, 1, 1, 9, 30).time(), datetime(2026, 1, 1, 16).time())  # noqa: DTZ001
LATCH = Latch(
    destination="paper", session_date=SESSION.session_date, stage=Stage.FLATTEN, latched_at=NOW, day_pnl=Decimal(-2000),
    baseline=Decimal(60_000), note="lost 2000", limit_pnl=Decimal(-1800),
)  # fmt: skip
WATCH = Watch("paper", SESSION.session_date, Decimal(-2000), Decimal(60_000), NOW)
RUN = Run(
    destination="paper", latched_for="paper", session_date=SESSION.session_date, latched_at=NOW, is_dry_run=False,
    begun_at=NOW,
)  # fmt: skip
NAME = client_order_id(RUN, "KO")
AROUND = Around(now=NOW, stands=True, closes_in_s=3600)
TARGET = Target(symbol="KO", side=Side.LONG, qty=Decimal(10), changed_at=NOW)
SHORT = replace(TARGET, side=Side.SHORT)
UNKNOWN = OutcomeUnknown("POST", "/v2/orders", "no answer")
TAKEN = Refused("client_order_id must be unique", status=422, code=40010001)
NO = Refused("insufficient qty available for order", status=403, code=40310000)


def order(status: str, order_id: str = "leg", **changes: Any) -> Order:
    values: dict[str, Any] = {"symbol": "KO", "side": "sell", "type": "stop", "qty": Decimal(10), "raw": b"{}"}
    return Order(id=order_id, status=status, created_at=NOW, updated_at=NOW, **(values | changes))


def request(kind: Kind, state: RequestState, **changes: Any) -> Request:
    values: dict[str, Any] = {"symbol": "KO", "name": NAME if kind is Kind.CLOSE else "leg", "attempt": 1, "epoch": 3,
                              "answered_at": NOW - timedelta(minutes=1)}  # fmt: skip
    return Request(kind=kind, state=state, **(values | changes))


def scene(**changes: Any) -> Scene:
    """Return ten shares that nothing holds back, unless it says otherwise."""
    values: dict[str, Any] = {
        "target": TARGET, "held": Decimal(10), "available": Decimal(10), "orders": (), "closing": None,
        "requests": (), "stop_move": "", "price_problem": None,
    }  # fmt: skip
    return Scene(**(values | changes))


def close(qty: str, side: str = "sell") -> Close:
    return Close("KO", side, Decimal(qty), f"{side} {qty} at market, all that is held")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, close("10")),
        ({"held": Decimal("2.5"), "available": None}, close("2.5")),
        ({"target": SHORT, "held": Decimal(-3), "available": Decimal(3)}, close("3", "buy")),
        ({"orders": (order("new"),)}, Cancel),
        ({"orders": (order("held"),)}, Cancel),
        ({"orders": (order("pending_cancel"),)}, "leg is pending_cancel"),
        (
            {"orders": (order("new"),), "requests": (request(Kind.CANCEL, RequestState.REJECTED, answered_at=NOW),)},
            "leg is canceled again soon",
        ),
        ({"available": Decimal(4)}, "reserves 6 shares"),
        ({"price_problem": "the last trade is 901 s old"}, "901 s old"),
        ({"price_problem": "no market price", "orders": (order("new"),)}, "no market price"),
        ({"stop_move": "stop-1", "orders": (order("new"),)}, "stop move stop-1 is not known"),
        ({"requests": (request(Kind.CANCEL, RequestState.UNKNOWN),)}, "not yet proved of leg"),
        ({"requests": (request(Kind.CLOSE, RequestState.PLANNED),)}, "PLANNED"),
        ({"requests": (request(Kind.CLOSE, RequestState.ACCEPTED),), "held": Decimal(0)}, "ACCEPTED"),
        ({"requests": (request(Kind.CLOSE, RequestState.UNKNOWN),), "price_problem": "no"}, "UNKNOWN"),
        ({"requests": (request(Kind.CLOSE, RequestState.DONE, order_id="ours"),)}, "not show the closing order ours"),
        ({"requests": (request(Kind.CLOSE, RequestState.NOT_DONE),)}, close("10")),
        ({"requests": (request(Kind.CLOSE, RequestState.REJECTED, answered_at=NOW, reason="no"),)}, "again soon: no"),
        ({"requests": (request(Kind.CLOSE, RequestState.NOT_SENT),) * 9}, close("10")),
        ({"requests": (request(Kind.CLOSE, RequestState.REJECTED, reason="halted"),) * 3}, TargetState.LEFT),
        ({"orders": (order("new"),), "requests": (request(Kind.CANCEL, RequestState.REJECTED),) * 5}, "be canceled"),
        ({"closing": order("new", filled_qty=Decimal(4))}, "new, 4 of 10 filled"),
        ({"closing": order("filled", filled_qty=Decimal(10)), "held": Decimal(7)}, TargetState.CLOSED),
        ({"closing": order("expired", filled_qty=Decimal(4)), "held": Decimal(6)}, TargetState.LEFT),
        ({"closing": order("canceled"), "held": Decimal(0)}, TargetState.CLOSED),
        ({"held": Decimal(0)}, TargetState.CLOSED),
        ({"held": Decimal(-10)}, TargetState.LEFT),
        ({"held": Decimal("NaN")}, TargetState.LEFT),
        ({"target": replace(TARGET, state=TargetState.CLOSED)}, None),
        ({"target": replace(TARGET, state=TargetState.LEFT)}, None),
    ],
)
def test_what_is_done_next(changes: dict[str, Any], expected: Any) -> None:
    found = decide(scene(**changes), AROUND)

    check(found, expected)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"stands": False}, TargetState.LEFT),
        ({"closes_in_s": 0.0}, TargetState.LEFT),
        ({"closes_in_s": 30.0}, "less than 60 s to the close"),  # no stop is taken away so late
        ({"kept_back": "the file var/kill exists"}, "var/kill"),
    ],
)
def test_what_the_account_forbids(changes: dict[str, Any], expected: Any) -> None:
    found = decide(scene(orders=(order("new"),)), replace(AROUND, **changes))

    check(found, expected)


@pytest.mark.parametrize(
    ("session", "at", "expected"),
    [
        (SESSION, NOW, 4 * 3600.0),
        (SESSION, NOW + timedelta(hours=4), 0.0),
        (NEXT_SESSION, NOW + timedelta(days=1), 0.0),
        (None, NOW, 0.0),
    ],
)
def test_a_flatten_goes_on_in_the_session_of_its_limit_alone(
    session: MarketSession | None, at: datetime, expected: float
) -> None:
    assert seconds_left(RUN, session, at) == expected


def check(found: list[Step], expected: Any) -> None:
    if expected is None:
        assert found == []
        return
    [step] = found
    if isinstance(expected, TargetState):
        assert isinstance(step, Finish)
        assert step.state is expected
    elif isinstance(expected, str):
        assert isinstance(step, Wait)
        assert expected in step.reason
    else:
        assert step == expected if isinstance(expected, Close) else isinstance(step, expected)


def test_a_dry_run_says_what_would_be_done() -> None:
    said = [
        would(scene(), AROUND),
        would(scene(orders=(order("new"), order("held", "other")), target=SHORT, held=Decimal(-10)), AROUND),
        would(scene(price_problem="no market price"), AROUND),
    ]

    assert said == [
        "would sell 10 at market", "would cancel 2 orders, then buy 10 at market", "would not act: no market price",
    ]  # fmt: skip


def test_an_age_that_grows_is_no_reason_to_look_again_at_once() -> None:
    stale, older = (replace(TARGET, detail=f"silent for {age} s (limit 15 s)") for age in ("16.3", "116.4"))

    assert not has_news([stale], [older])
    assert has_news([stale], [replace(older, detail="no market price")])
    assert has_news([stale], [replace(stale, state=TargetState.CLOSED)])


@pytest.mark.parametrize(
    ("latch", "watch", "at", "expected"),
    [
        (LATCH, WATCH, NOW, ""),
        (LATCH, WATCH, NOW + timedelta(minutes=3), ""),
        (LATCH, WATCH, NOW + timedelta(minutes=3, seconds=1), "last seen at 16:00:00"),
        (LATCH, WATCH, NOW + timedelta(hours=4), "session is not on"),
        (LATCH, replace(WATCH, blind="KO has no price"), NOW, "cannot be seen: KO has no price"),
        (LATCH, None, NOW, "nobody looks"),
        (LATCH, replace(WATCH, day_pnl=Decimal(-1800)), NOW, ""),
        (LATCH, replace(WATCH, day_pnl=Decimal("-1799.99")), NOW, "does not reach the limit"),
        (replace(LATCH, limit_pnl=None), WATCH, NOW, "does not reach"),
        (replace(LATCH, session_date=date(2026, 10, 7)), WATCH, NOW, "earlier session"),
        (LATCH, replace(WATCH, session_date=date(2026, 10, 7)), NOW, "last seen"),
    ],
)
def test_a_latched_limit_sets_nothing_going_on_old_or_doubtful_evidence(
    latch: Latch, watch: Watch | None, at: datetime, expected: str
) -> None:
    found = why_not_begin(latch, watch, SESSION, at, timedelta(minutes=3))

    assert found == "" if not expected else expected in found


def test_a_closing_order_has_one_name_for_one_latch_and_symbol() -> None:
    others = {
        client_order_id(run, symbol)
        for run in (RUN, replace(RUN, latched_for=""), replace(RUN, latched_at=NOW + timedelta(seconds=1)))
        for symbol in ("KO", "F")
    }

    assert client_order_id(replace(RUN, begun_at=NOW + timedelta(hours=1)), "KO") == NAME
    assert len(others) == 6
    assert len(client_order_id(replace(RUN, destination="x" * 60), "KO")) <= 128


@pytest.mark.parametrize(
    ("result", "state"),
    [
        (order("accepted"), RequestState.ACCEPTED), (None, RequestState.ACCEPTED), (NO, RequestState.REJECTED),
        (TAKEN, RequestState.UNKNOWN), (UNKNOWN, RequestState.UNKNOWN), (TimeoutError(), RequestState.UNKNOWN),
        (NotSent("late"), RequestState.NOT_SENT),
    ],
)  # fmt: skip
def test_what_the_end_of_a_request_means(result: Any, state: RequestState) -> None:
    found = answered(request(Kind.CLOSE, RequestState.PLANNED), result, NOW)

    assert (found.state, found.answered_at) == (state, NOW)


def sight(**changes: Any) -> Sight:
    values: dict[str, Any] = {"positions": {}, "orders": {}, "ended": {}, "closings": {}}
    return Sight(**(values | changes))


def test_only_three_readings_over_fifteen_seconds_prove_that_no_order_exists() -> None:
    left = recovered(request(Kind.CLOSE, RequestState.PLANNED), NOW)

    states = []
    for seconds in (1, 2, 14, 15):
        left = settled(left, sight(closings={NAME: None}), NOW + timedelta(seconds=seconds))
        states.append(left.state)

    assert states == [RequestState.UNKNOWN] * 3 + [RequestState.NOT_DONE]
    promised = request(Kind.CLOSE, RequestState.ACCEPTED, unseen=9, answered_at=NOW - timedelta(hours=1))
    assert settled(promised, sight(closings={NAME: None}), NOW).state is RequestState.ACCEPTED
    assert settled(promised, sight(closings={NAME: order("new", "ours")}), NOW).order_id == "ours"


def test_a_cancel_is_done_once_its_order_has_ended_however() -> None:
    asked = request(Kind.CANCEL, RequestState.UNKNOWN, unseen=5)

    assert settled(asked, sight(orders={"leg": order("pending_cancel")}), NOW).state is RequestState.UNKNOWN
    assert settled(asked, sight(orders={"leg": order("new")}), NOW).state is RequestState.NOT_DONE
    assert settled(asked, sight(ended={"leg": order("filled")}), NOW).state is RequestState.DONE


class WildBroker:
    """Ten shares and a stop at a broker that may lose, delay and refuse; it never takes a name twice."""

    def __init__(self, held: Decimal) -> None:
        self.held, self.first, self.stop_lives = held, held, True
        self.closing: Order | None = None
        self.late: dict[str, str] | None = None
        self.sent: list[tuple[bool, Decimal]] = []

    def cancel(self, how: str) -> Exception | None:
        if how != "lost":
            self.stop_lives = False
        return None if how == "ok" else UNKNOWN

    def place(self, fields: dict[str, str], how: str) -> Order | Exception:
        if how == "refused":
            return NO
        if how == "lost":
            return UNKNOWN
        if how == "late":
            self.late = fields
            return UNKNOWN
        taken = self._take(fields)
        return taken if how == "ok" or isinstance(taken, Exception) else UNKNOWN

    def arrive(self) -> None:
        """Take the order that was on its way."""
        if self.late is not None:
            self._take(self.late)
            self.late = None

    def fill(self, shares: int) -> None:
        """Fill some of the closing order."""
        if self.closing is None or self.closing.status != "new":
            return
        filled = min((self.closing.filled_qty or Decimal(0)) + shares, self.closing.qty or Decimal(0))
        self.held += (filled - (self.closing.filled_qty or Decimal(0))) * (1 if self.closing.side == "buy" else -1)
        is_whole = filled == self.closing.qty
        self.closing = order(
            "filled" if is_whole else "new", "ours", side=self.closing.side, qty=self.closing.qty, filled_qty=filled
        )

    def trigger(self) -> None:
        """Have the stop close the position."""
        if self.stop_lives:
            self.held, self.stop_lives = Decimal(0), False

    def _take(self, fields: dict[str, str]) -> Order | Exception:
        if self.closing is not None:
            return TAKEN
        if self.held == 0:
            return NO
        self.closing = order("new", "ours", side=fields["side"], qty=Decimal(fields["qty"]), filled_qty=Decimal(0))
        return self.closing


WAYS = st.sampled_from(["ok", "unanswered", "lost", "late", "refused"])
EVENTS = st.sampled_from(["nothing", "arrive", "fill", "trigger", "stale", "restart", "reopen"])


@given(
    short=st.booleans(),
    rounds=st.lists(st.tuples(WAYS, EVENTS, st.integers(1, 20), st.integers(1, 10)), min_size=5, max_size=40),
)
def test_whatever_happens_a_position_is_closed_once_and_never_beyond_flat(
    short: bool, rounds: list[tuple[str, str, int, int]]
) -> None:
    broker = WildBroker(Decimal(-10 if short else 10))
    target, now = SHORT if short else TARGET, NOW
    requests: list[Request] = []
    for way, event, seconds, shares in rounds:
        now += timedelta(seconds=seconds)
        if event == "arrive":
            broker.arrive()
        elif event == "fill":
            broker.fill(shares)
        elif event == "trigger":
            broker.trigger()
        elif event == "reopen" and target.state is not TargetState.OPEN and broker.held == 0:
            broker.held = broker.first
        seen = sight(
            orders={"leg": order("held")} if broker.stop_lives else {},
            ended={} if broker.stop_lives else {"leg": order("canceled")}, closings={NAME: broker.closing},
        )  # fmt: skip
        requests = [settled(each, seen, now) for each in requests]
        here = scene(
            target=target, held=broker.held, available=Decimal(0) if broker.stop_lives else abs(broker.held),
            orders=tuple(seen.orders.values()), closing=broker.closing, requests=tuple(requests),
            price_problem="stale" if event == "stale" else None,
        )  # fmt: skip
        steps = decide(here, replace(AROUND, now=now))
        assert steps == decide(here, replace(AROUND, now=now))
        for step in steps:
            if isinstance(step, Finish):
                target = replace(target, state=step.state)
            elif isinstance(step, Cancel | Close):
                assert event != "stale"
                requests.append(ask(broker, step, requests, way, now, is_killed=event == "restart"))
    assert target.side.sign * broker.held >= 0
    assert sum(each.kind is Kind.CLOSE and each.state is RequestState.ACCEPTED for each in requests) <= 1
    if target.state is TargetState.CLOSED and broker.closing is not None:
        assert broker.closing.qty == Decimal(10)


def ask(
    broker: WildBroker, step: Cancel | Close, known: list[Request], way: str, now: datetime, *, is_killed: bool
) -> Request:
    """Ask as the product does; what is killed finds its request planned, and starts again."""
    kind = Kind.CANCEL if isinstance(step, Cancel) else Kind.CLOSE
    name = step.order_id if isinstance(step, Cancel) else NAME
    qty, side = (None, "") if isinstance(step, Cancel) else (step.qty, step.side)
    planned = Request(
        kind=kind, symbol="KO", name=name, attempt=next_attempt(known, kind, name), epoch=1, qty=qty, side=side
    )
    result = broker.cancel(way) if kind is Kind.CANCEL else broker.place(order_of(planned), way)
    return recovered(planned, now) if is_killed else answered(planned, result, now)
