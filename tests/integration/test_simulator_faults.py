"""Every fault switch of the simulator does on the wire what its name says, and the truth stays the truth."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import anyio
import httpx
import msgspec
import pytest
import zmq
import zmq.asyncio
from coldharbour_plugins.simulator.broker import SimulatedBroker
from coldharbour_plugins.simulator.server import SimulatorAddress, running_simulator, serve_simulator
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from coldharbour.clock import SystemClock
from coldharbour.errors import BadConfig
from coldharbour.sections import SimulatorSettings

pytestmark = pytest.mark.anyio

SLUG = "bench"
SECRET = "simulator"
KEYS = {"APCA-API-KEY-ID": f"SIM-{SLUG}", "APCA-API-SECRET-KEY": SECRET}
FAR_ORDER = {
    "symbol": "KO", "qty": "1", "side": "buy", "type": "limit", "time_in_force": "gtc", "limit_price": "9",
}  # fmt: skip
PATIENCE_S = 30.0
QUIET_S = 0.3


@dataclass
class Bench:
    """A simulator on real sockets, seen over HTTP."""

    broker: SimulatedBroker
    address: SimulatorAddress
    http: httpx.AsyncClient

    async def set(self, **faults: object) -> None:
        answer = await self.http.patch("/sim/faults", json=faults)
        assert answer.status_code == 200, answer.text

    async def hits(self, name: str) -> int:
        rows = (await self.http.get("/sim/faults")).json()["faults"]
        return int(next(row["hits"] for row in rows if row["name"] == name))

    async def place(self) -> str:
        """Place a limit order far from the market and return its id."""
        answer = await self.http.post("/v2/orders", json=FAR_ORDER)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def orders(self) -> int:
        """Count the orders still open."""
        return len(self.broker.accounts[SLUG].orders(status="open", limit=500))


def settings_at(port: int = 0, prices: str = "tcp://127.0.0.1:*") -> SimulatorSettings:
    return SimulatorSettings.model_validate({"port": port, "price_endpoint": prices})


def client_of(address: SimulatorAddress) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=address.url, headers=KEYS, timeout=PATIENCE_S)


def new_broker() -> SimulatedBroker:
    """A broker whose account has its deposit and hardly any past."""
    return SimulatedBroker(
        seed=7, accounts={SLUG: Decimal(1_000_000)}, clock=SystemClock(), history_days=4, trading=False
    )


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    broker = new_broker()
    async with running_simulator(broker, settings_at()) as address, client_of(address) as http:
        yield Bench(broker, address, http)
    broker.close()


@asynccontextmanager
async def listening(bench: Bench, *, path: str = "", login: int = 1) -> AsyncIterator[ClientConnection]:
    """Connect, log in and subscribe."""
    async with connect(bench.address.stream_url + path, compression=None) as socket:
        await log_in(socket, form=login)
        await socket.send('{"action":"listen","data":{"streams":["trade_updates","nonsense"]}}')
        reply = json.loads(await socket.recv())
        assert reply == {"stream": "listening", "data": {"streams": ["trade_updates"]}}
        yield socket


async def log_in(socket: ClientConnection, *, form: int = 1, secret: str = SECRET) -> dict[str, Any]:
    key = f"SIM-{SLUG}"
    first = {"action": "authenticate", "data": {"key_id": key, "secret_key": secret}}
    second = {"action": "auth", "key": key, "secret": secret}
    await socket.send(json.dumps(first if form == 1 else second))
    reply: dict[str, Any] = json.loads(await socket.recv())
    return reply


async def drained(socket: ClientConnection) -> list[str | bytes]:
    """Return everything that comes until nothing more does."""
    frames: list[str | bytes] = []
    while True:
        with anyio.move_on_after(QUIET_S):
            frames.append(await socket.recv())
            continue
        return frames


def parsed(frames: list[str | bytes]) -> list[dict[str, Any]]:
    return [json.loads(frame)["data"] for frame in frames]


# --- REST on its best day


async def test_every_answer_carries_request_id_and_rate_limit(bench: Bench) -> None:
    first = await bench.http.get("/v2/account")
    second = await bench.http.get("/v2/orders/nonsense")

    assert len(first.headers["x-request-id"]) == 32
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert int(first.headers["x-ratelimit-remaining"]) - 1 == int(second.headers["x-ratelimit-remaining"])
    assert int(second.headers["x-ratelimit-reset"]) > 1_700_000_000
    assert second.json() == {"code": 40010001, "message": second.json()["message"]}


async def test_wrong_keys_bodies_paths_and_arguments_are_refused_as_json(bench: Bench) -> None:
    async with httpx.AsyncClient(base_url=bench.address.url) as stranger:
        assert (await stranger.get("/v2/account")).status_code == 401
    malformed = await bench.http.post("/v2/orders", content=b"{")
    unknown = await bench.http.get("/v2/nothing/here")
    argument = await bench.http.get("/v2/orders", params={"after": "yesterday"})

    assert (malformed.status_code, malformed.json()["code"]) == (400, 40010000)
    assert (unknown.status_code, unknown.json()["code"]) == (404, 40410000)
    assert (argument.status_code, argument.json()["code"]) == (422, 40010001)


async def test_canceling_answers_204_with_nothing_and_cancel_all_207_with_rows(bench: Bench) -> None:
    one, _ = await bench.place(), await bench.place()
    bench.broker.step()

    single = await bench.http.delete(f"/v2/orders/{one}")
    rest = await bench.http.delete("/v2/orders")

    assert (single.status_code, single.content) == (204, b"")
    assert rest.status_code == 207
    assert {row["status"] for row in rest.json()} == {200}


# --- REST faults


async def test_the_rate_limit_is_real_and_429_can_be_injected_with_and_without_retry_after(bench: Bench) -> None:
    await bench.set(rest_429_rate=1)
    bare = await bench.http.get("/v2/account")
    await bench.set(rest_retry_after_s=2)
    polite = await bench.http.get("/v2/account")
    await bench.set(rest_429_rate=0, rest_limit_per_min=1)
    limited = await bench.http.get("/v2/account")

    assert (bare.status_code, bare.json()["code"], "retry-after" in bare.headers) == (429, 42910000, False)
    assert polite.headers["retry-after"] == "2"
    assert (limited.status_code, limited.headers["x-ratelimit-remaining"]) == (429, "0")


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_errors_come_before_after_or_long_before_their_effect(bench: Bench, status: int) -> None:
    before = bench.orders()
    await bench.set(rest_error_rate=1, rest_error_status=status, rest_methods=["POST"])
    refused = await bench.http.post("/v2/orders", json=FAR_ORDER)
    undone = bench.orders()
    await bench.set(rest_error_rate=0, rest_error_after_effect_rate=1)
    done = await bench.http.post("/v2/orders", json=FAR_ORDER)
    after = bench.orders()
    await bench.set(rest_error_after_effect_rate=0, rest_late_effect_rate=1, rest_late_effect_s=0.05)
    arrived = anyio.Event()

    def watch(_: dict[str, object]) -> None:
        if bench.orders() == before + 2:
            arrived.set()

    stop_listening = bench.broker.accounts[SLUG].listen(watch)
    late = await bench.http.post("/v2/orders", json=FAR_ORDER)
    with anyio.fail_after(PATIENCE_S):
        await arrived.wait()
    stop_listening()

    assert [answer.status_code for answer in (refused, done, late)] == [status] * 3
    assert (undone, after, bench.orders()) == (before, before + 1, before + 2)
    assert (await bench.http.get("/v2/account")).status_code == 200


async def test_an_error_can_be_a_proxys_html_page(bench: Bench) -> None:
    await bench.set(rest_error_rate=1, rest_error_html=True, rest_error_status=502)

    answer = await bench.http.get("/v2/account")

    assert (answer.status_code, answer.headers["content-type"]) == (502, "text/html")
    assert answer.text.startswith("<html>")


@pytest.mark.parametrize(("fault", "placed"), [("rest_hang_rate", 0), ("rest_hang_after_effect_rate", 1)])
async def test_a_hang_is_never_answered_whether_done_or_not(bench: Bench, fault: str, placed: int) -> None:
    before = bench.orders()
    await bench.set(**{fault: 1})

    with pytest.raises(httpx.ReadTimeout):
        await bench.http.post("/v2/orders", json=FAR_ORDER, timeout=QUIET_S)

    assert bench.orders() == before + placed


async def test_a_held_request_is_done_when_it_is_let_go(bench: Bench) -> None:
    before, answers = bench.orders(), list[str]()
    await bench.set(rest_hold=True, rest_methods=["POST"])

    async def place() -> None:
        answers.append(await bench.place())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(place)
        while await bench.hits("rest_hold") == 0:  # until the request has arrived
            continue
        held = (bench.orders(), len(answers))
        await bench.set(rest_hold=False)

    assert held == (before, 0)
    assert (bench.orders(), len(answers)) == (before + 1, 1)


async def test_a_cut_body_breaks_off_in_the_middle(bench: Bench) -> None:
    await bench.set(rest_cut_rate=1)

    with pytest.raises(httpx.RemoteProtocolError):
        await bench.http.get("/v2/account")


async def test_pages_repeat_or_lose_their_second_half_or_change_their_shape(bench: Bench) -> None:
    ids = [await bench.place() for _ in range(4)]
    walk = {"status": "all", "direction": "asc", "limit": "2", "after_order_id": ids[1]}
    first_page = (await bench.http.get("/v2/orders", params={**walk, "after_order_id": ""})).json()
    calm = (await bench.http.get("/v2/orders", params=walk)).json()
    await bench.set(rest_repeat_page_rate=1)
    repeated = (await bench.http.get("/v2/orders", params=walk)).json()
    await bench.set(rest_repeat_page_rate=0, rest_partial_page_rate=1)
    partial = (await bench.http.get("/v2/orders", params=walk)).json()
    await bench.set(rest_partial_page_rate=0, rest_wrong_json_rate=1)
    wrong = (await bench.http.get("/v2/orders", params=walk)).json()

    assert [row["id"] for row in calm] == ids[2:]
    assert repeated == first_page != calm
    assert [row["id"] for row in partial] == ids[2:3]
    assert isinstance(wrong, dict)


async def test_a_fault_limit_ends_the_faults_and_filters_spare_the_rest(bench: Bench) -> None:
    await bench.set(rest_error_rate=1, rest_fault_limit=2, rest_paths=["account"])

    clock = (await bench.http.get("/v2/clock")).status_code
    hit = [(await bench.http.get("/v2/account")).status_code for _ in range(3)]
    await bench.set(rest_fault_limit=None, rest_accounts=["someone-else"])
    spared = (await bench.http.get("/v2/account")).status_code

    assert (clock, hit, spared) == (200, [504, 504, 200], 200)
    assert await bench.hits("rest_error_rate") == 2


async def test_one_seed_replays_the_same_faults() -> None:
    async def run() -> list[int]:
        broker = new_broker()
        async with running_simulator(broker, settings_at()) as address, client_of(address) as http:
            await http.patch("/sim/faults", json={"rest_error_rate": 0.5})
            statuses = [(await http.get("/v2/clock")).status_code for _ in range(20)]
        broker.close()
        return statuses

    first, second = await run(), await run()

    assert first == second
    assert set(first) == {200, 504}


# --- stream


@pytest.mark.parametrize("path", ["", "/"])
@pytest.mark.parametrize("login", [1, 2])
async def test_both_logins_and_both_paths_listen_and_frames_are_binary(bench: Bench, path: str, login: int) -> None:
    async with listening(bench, path=path, login=login) as socket:
        await bench.place()
        frame = await socket.recv()

    assert isinstance(frame, bytes)
    assert json.loads(frame)["stream"] == "trade_updates"
    assert {"event", "timestamp", "order"} <= json.loads(frame)["data"].keys()


async def test_wrong_keys_are_told_so_and_listening_needs_a_login(bench: Bench) -> None:
    async with connect(bench.address.stream_url) as socket:
        await socket.send('{"action":"listen","data":{"streams":["trade_updates"]}}')
        early = json.loads(await socket.recv())
        wrong = await log_in(socket, secret="wrong")
        right = await log_in(socket)

    assert early["data"] == {"status": "unauthorized", "action": "listen"}
    assert wrong["data"]["status"] == "unauthorized"
    assert right["data"] == {"status": "authorized", "action": "authenticate"}


async def test_a_second_connection_is_refused_replaces_or_is_allowed(bench: Bench) -> None:
    async with listening(bench) as first:
        async with connect(bench.address.stream_url) as second:
            refused = await log_in(second)
            with pytest.raises(ConnectionClosed):
                await second.recv()
        await bench.set(stream_second="allow")
        async with listening(bench) as third:
            await bench.place()
            both = [await first.recv(), await third.recv()]
        await bench.set(stream_second="replace")
        async with listening(bench):
            with pytest.raises(ConnectionClosed):
                await drained(first)

    assert refused["data"]["status"] == "exceeded"
    assert both[0] == both[1]


async def test_drop_now_resets_and_the_account_may_connect_again_at_once(bench: Bench) -> None:
    async with listening(bench) as socket:
        await bench.set(stream_drop_now=True)
        with pytest.raises(ConnectionClosed):
            await socket.recv()

    async with listening(bench) as again:
        await bench.place()
        assert parsed([await again.recv()])


async def test_drop_every_resets_after_so_many_frames(bench: Bench) -> None:
    await bench.set(stream_drop_every=3)
    async with listening(bench) as socket:  # the reply to `listen` is the first frame counted
        bench.broker.accounts[SLUG].burst(10)

        frames = [await socket.recv() for _ in range(2)]

        assert len(parsed(frames)) == 2
        with pytest.raises(ConnectionClosed):
            await socket.recv()


async def test_a_mute_socket_answers_pings_and_says_nothing(bench: Bench) -> None:
    async with listening(bench) as socket:
        await bench.set(stream_mute_now=True)
        await bench.place()
        with anyio.fail_after(PATIENCE_S):
            await (await socket.ping())
        silent = await drained(socket)
    async with listening(bench) as again:
        await bench.place()
        heard = await drained(again)
        await bench.set(stream_mute=True)
        await bench.place()
        silent_again = await drained(again)

    assert silent == silent_again == []
    assert heard


async def test_a_client_that_does_not_read_is_cut_and_one_that_reads_is_not(bench: Bench) -> None:
    await bench.set(stream_queue_frames=1000)
    async with listening(bench) as reader:
        await bench.http.post("/sim/burst", json={"account": SLUG, "events": 1200, "rate": 1000})
        frames = [await reader.recv() for _ in range(1200)]
    async with listening(bench) as sleeper:
        await bench.http.post("/sim/burst", json={"account": SLUG, "events": 8000})
        with anyio.fail_after(PATIENCE_S):
            while (await bench.http.get("/sim/burst")).json()["bursts"][-1]["state"] != "done":
                continue
        with pytest.raises(ConnectionClosed):
            await drained(sleeper)

    assert len(set(frames)) == 1200


async def test_text_frames_can_be_asked_for(bench: Bench) -> None:
    await bench.set(stream_text_frames=True)
    async with listening(bench) as socket:
        await bench.place()

        assert isinstance(await socket.recv(), str)


async def test_duplicates_losses_conflicts_and_disorder_never_touch_the_truth(bench: Bench) -> None:
    account = bench.broker.accounts[SLUG]
    async with listening(bench) as socket:
        account.burst(40)
        calm = await drained(socket)
        before = account.truth()
        await bench.set(stream_duplicate_rate=1, stream_duplicate_max=3)
        account.burst(20)
        doubled = await drained(socket)
        await bench.set(stream_duplicate_rate=0, stream_lose_rate=1)
        account.burst(20)
        lost = await drained(socket)
        await bench.set(stream_lose_rate=0, stream_conflict_rate=1)
        account.burst(20)
        conflicting = await drained(socket)
        await bench.set(stream_conflict_rate=0, stream_reorder_window=20)
        heard: list[dict[str, Any]] = []
        stop = account.listen(lambda data: heard.append(msgspec.json.decode(msgspec.json.encode(data))))
        account.burst(40)
        stop()
        shuffled = parsed(await drained(socket))

    assert len(set(calm)) == len(calm) >= 40
    assert len(doubled) > len(set(doubled)) >= 20
    assert lost == []
    assert sum(row.get("qty") == "987654" for row in parsed(conflicting)) * 2 == len(conflicting)
    assert shuffled != heard
    assert sorted(map(str, shuffled)) == sorted(map(str, heard))
    assert account.truth() != before


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        ("stream_unknown_event_rate", lambda row: row["event"] == "teleported"),
        ("stream_unknown_status_rate", lambda row: row["order"]["status"] == "levitating"),
    ],
)
async def test_words_from_the_future_are_sent(bench: Bench, fault: str, seen: Any) -> None:
    await bench.set(**{fault: 1})
    async with listening(bench) as socket:
        await bench.place()

        assert seen(parsed([await socket.recv()])[0])


async def test_malformed_frames_and_missing_fields_are_sent(bench: Bench) -> None:
    async with listening(bench) as socket:
        await bench.place()
        whole = parsed(await drained(socket))[0]["order"].keys()
        await bench.set(stream_missing_field_rate=1)
        await bench.place()
        poorer = parsed([await socket.recv()])[0]["order"].keys()
        await bench.set(stream_missing_field_rate=0, stream_malformed_rate=1)
        await drained(socket)
        await bench.place()
        with pytest.raises(json.JSONDecodeError):
            parsed([await socket.recv()])

    assert len(whole - poorer) == 1


async def test_upgrades_are_refused_for_a_while(bench: Bench) -> None:
    for status in (429, 503):
        await bench.set(stream_refuse_s=60, stream_refuse_status=status)
        with pytest.raises(InvalidStatus) as refused:
            await connect(bench.address.stream_url)
        assert refused.value.response.status_code == status
    await bench.set(stream_refuse_s=60, stream_refuse_status=401)
    async with connect(bench.address.stream_url) as socket:
        assert (await log_in(socket))["data"]["status"] == "unauthorized"

    await bench.set(stream_refuse_s=0)

    async with listening(bench):
        pass


async def test_stream_faults_spare_the_accounts_they_do_not_name(bench: Bench) -> None:
    await bench.set(stream_lose_rate=1, stream_mute=True, stream_accounts=["someone-else"])
    async with listening(bench) as socket:
        await bench.place()

        assert parsed([await socket.recv()])


# --- prices


async def test_prices_are_published_and_their_faults_are_seen(bench: Bench) -> None:
    with zmq.asyncio.Context() as context, context.socket(zmq.SUB) as feed:
        feed.linger = 0
        feed.subscribe(b"")
        feed.connect(bench.address.price_endpoint)

        trade = await _price(feed, lambda raw: True)
        await bench.set(price_bad_rate=1)
        odd = await _price(feed, lambda raw: math.isnan(raw) or raw <= 0 or raw > 3_000)
        await bench.set(price_bad_rate=0, price_excluded_rate=1)
        excluded = await _price(feed, lambda raw: True, conditions=["M"])
        await bench.set(price_excluded_rate=0, price_mute=True)

    assert trade.keys() == {"symbol", "price", "size", "conditions", "timestamp"}
    assert trade["symbol"] in bench.broker.market.assets
    assert odd["symbol"] in bench.broker.market.assets
    assert excluded["price"] > 0


async def _price(feed: zmq.asyncio.Socket, holds: Any, conditions: list[str] | None = None) -> dict[str, Any]:
    with anyio.fail_after(PATIENCE_S):
        while True:
            trade: dict[str, Any] = msgspec.msgpack.decode(await feed.recv())["trade"]
            if holds(trade["price"]) and (conditions is None or trade["conditions"] == conditions):
                return trade


# --- controls


async def test_the_listing_names_every_switch_with_its_meaning_and_the_engines_too(bench: Bench) -> None:
    await bench.set(replace_then_reject=True, late_activity_s=1.5)

    rows = {row["name"]: row for row in (await bench.http.get("/sim/faults")).json()["faults"]}

    assert all(row["about"] for row in rows.values())
    assert rows["replace_then_reject"]["part"] == "broker"
    assert (rows["replace_then_reject"]["value"], rows["late_activity_s"]["value"]) == (True, 1.5)
    assert (bench.broker.quirks.replace_then_reject, bench.broker.quirks.late_activity_s) == (True, 1.5)
    assert rows["stream_mute"]["default"] is False


@pytest.mark.parametrize("change", [{"rest_bogus": 1}, {"rest_error_rate": 2}, {"replaced_leg_layout": "upside"}])
async def test_an_impossible_change_is_refused_whole_naming_what_exists(bench: Bench, change: dict[str, Any]) -> None:
    answer = await bench.http.patch("/sim/faults", json={"rest_cut_rate": 1, **change})

    assert answer.status_code == 422
    assert {"rest_error_rate", "stream_mute", "replaced_leg_layout"} <= set(answer.json()["known"])
    assert next(iter(change)) in answer.json()["message"]
    assert (await bench.http.get("/v2/account")).status_code == 200


async def test_put_sets_what_it_names_and_resets_the_rest(bench: Bench) -> None:
    await bench.set(rest_error_rate=1, replace_then_reject=True)

    await bench.http.put("/sim/faults", json={"rest_delay_s": 0.01})

    rows = {row["name"]: row for row in (await bench.http.get("/sim/faults")).json()["faults"]}
    assert [name for name, row in rows.items() if row["value"] != row["default"]] == ["rest_delay_s"]


async def test_a_burst_is_paced_and_reports_its_progress_and_the_truth_counts_it(bench: Bench) -> None:
    async with listening(bench) as socket:
        started = await bench.http.post("/sim/burst", json={"account": SLUG, "events": 200, "rate": 1000})
        frames = [await socket.recv() for _ in range(200)]
        with anyio.fail_after(PATIENCE_S):
            while (job := (await bench.http.get("/sim/burst")).json()["bursts"][-1])["state"] != "done":
                continue
    truth = (await bench.http.get("/sim/truth")).json()

    assert (started.status_code, started.json()["state"]) == (202, "running")
    assert job["sent"] >= 200
    assert job["elapsed_s"] >= 0.1
    assert len(set(frames)) == 200
    assert set(truth["accounts"]) == {SLUG}
    assert (await bench.http.post("/sim/burst", json={"account": "x", "events": 1})).status_code == 404
    assert (await bench.http.post("/sim/burst", json={"account": SLUG, "events": 0})).status_code == 422


async def test_prices_can_be_held_and_traders_switched(bench: Bench) -> None:
    pinned = await bench.http.put("/sim/prices", json={"KO": "70.55"})
    bench.broker.step()
    price = (await bench.http.get("/sim/prices")).json()["KO"]
    on = (await bench.http.put("/sim/trader", json={"on": True})).json()

    assert (pinned.status_code, price, on) == (200, "70.55", {"on": True})
    assert bench.broker.trading
    assert (await bench.http.put("/sim/prices", json={"NOSUCH": 1})).status_code == 404
    assert (await bench.http.put("/sim/prices", json={"KO": -1})).status_code == 422


async def test_money_is_booked_and_a_stock_is_split_by_hand(bench: Bench) -> None:
    deposit = await bench.http.post("/sim/bookings", json={"account": SLUG, "type": "CSD", "amount": "1000.5"})
    shares = await bench.http.post("/sim/bookings", json={"account": SLUG, "type": "ACATS", "symbol": "KO", "qty": 3})
    split = await bench.http.post("/sim/splits", json={"symbol": "KO", "ratio": "2"})
    rows = (await bench.http.get("/v2/account/activities")).json()
    details = (await bench.http.get(f"/sim/truth/{SLUG}")).json()

    booked = [deposit.json(), shares.json(), split.json()[SLUG]]
    assert [row["activity_type"] for row in booked] == ["CSD", "ACATS", "SPLIT"]
    assert all(row in rows for row in booked)
    assert (await bench.http.get("/v2/positions/KO")).json()["qty"] == "6"
    assert details.keys() == {"realised_fifo", "realised_fifo_by_order", "minutes"}
    for path, body, status in (
        ("bookings", {"account": "x", "type": "CSD", "amount": 1}, 404),
        ("bookings", {"account": SLUG, "type": "CSD", "amount": "much"}, 422),
        ("bookings", {"account": SLUG, "type": "CSD", "amount": 1, "colour": "red"}, 422),
        ("splits", {"symbol": "NOSUCH", "ratio": 2}, 404),
        ("splits", {"symbol": "KO", "ratio": 0}, 422),
    ):
        assert (await bench.http.post(f"/sim/{path}", json=body)).status_code == status, body
    assert (await bench.http.get("/sim/truth/x")).status_code == 404


async def test_a_proxy_before_the_simulator_takes_and_loses_toxics(bench: Bench) -> None:
    port = (await bench.http.post("/sim/proxy", json={"name": "wan"})).json()["port"]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=KEYS) as through:
        assert (await through.get("/v2/account")).status_code == 200
        toxic = {"kind": "timeout", "after_s": 0}
        assert (await bench.http.post("/sim/proxy/wan/toxics", json=toxic)).status_code == 201
        with pytest.raises(httpx.ReadTimeout):
            await through.get("/v2/account", timeout=QUIET_S)
        assert (await bench.http.delete("/sim/proxy/wan/toxics/timeout_downstream")).status_code == 204
        assert (await through.get("/v2/account")).status_code == 200
    bogus = await bench.http.post("/sim/proxy/wan/toxics", json={"kind": "gremlins"})
    closed = await bench.http.delete("/sim/proxy/wan")

    assert bogus.status_code == 422
    assert closed.status_code == 204
    assert (await bench.http.get("/sim/proxy")).json() == {"proxies": {}}


async def test_controls_refuse_other_names_and_web_pages(bench: Bench) -> None:
    assert (await bench.http.get("/sim/truth", headers={"host": "rebound.example"})).status_code == 403
    assert (await bench.http.get("/sim/truth", headers={"origin": "https://page.example"})).status_code == 403


# --- life and death


async def test_shutdown_ends_streams_and_hanging_requests_within_a_second() -> None:
    broker = new_broker()
    broken: list[str] = []

    async def hang(http: httpx.AsyncClient, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        task_status.started()
        try:
            await http.get("/v2/account")
        except httpx.RemoteProtocolError:
            broken.append("request")

    async with anyio.create_task_group() as clients, anyio.create_task_group() as servers:
        address = await servers.start(serve_simulator, broker, settings_at())
        async with client_of(address) as http:
            bench = Bench(broker, address, http)
            async with listening(bench) as socket:
                await bench.set(rest_hang_rate=1)
                await clients.start(hang, http)
                with anyio.fail_after(PATIENCE_S):
                    while await bench.hits("rest_hang_rate") == 0:  # until the request has arrived
                        continue
                began = anyio.current_time()
                servers.cancel_scope.cancel()
                with anyio.CancelScope(shield=True), pytest.raises(ConnectionClosed):
                    await socket.recv()
    broker.close()

    assert anyio.current_time() - began < 1
    assert broken == ["request"]


async def test_a_taken_port_is_a_configuration_error_that_names_it(bench: Bench) -> None:
    with pytest.raises(BadConfig, match=str(bench.address.port)):
        await serve_simulator(bench.broker, settings_at(port=bench.address.port))
    with pytest.raises(BadConfig, match="price_endpoint"):
        await serve_simulator(bench.broker, settings_at(prices=bench.address.price_endpoint))
