"""The pages over real sockets and a real PostgreSQL: what they show, whom they refuse, how they end."""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx
import pytest
from coldharbour_plugins.simulator.proxy import byte_proxy
from fakes.room import SLUG, NoSettings, Room, context, healthy_workers, open_room, save_open_market
from prometheus_client.parser import text_string_to_metric_families
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from coldharbour.db import open_database
from coldharbour.errors import BadConfig, NeedsOperator
from coldharbour.hookspecs import PanelSpec
from coldharbour.sections import WebSettings
from coldharbour.web import events
from coldharbour.web.app import serve_web
from coldharbour.web.assets import load_assets
from coldharbour.web.events import Streams

pytestmark = pytest.mark.anyio

SHOWN_WITHIN_S = 20.0  # far more than it takes: the machine may be busy
ASK_AGAIN_S = 0.05
HOSTILE = '<img src=x onerror="alert(1)">'


@pytest.fixture
async def room(database_url: str) -> AsyncIterator[Room]:
    async with open_room(database_url) as opened:
        yield opened


@pytest.fixture
async def browser() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=10) as client:
        yield client


class OpenPage:
    """One open stream, read as a browser reads it."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.received = ""
        self._pieces = response.aiter_text()

    async def until(self, told: Callable[[str], bool], within_s: float = SHOWN_WITHIN_S) -> str:
        """Return everything received since the last call, once it tells what was asked for."""
        fresh = ""
        with anyio.fail_after(within_s):
            while not told(fresh):
                fresh += await anext(self._pieces)
        self.received += fresh
        return fresh

    async def until_the_end(self) -> None:
        """Read on until the server ends the stream; raises httpx.RemoteProtocolError if it just hangs up."""
        async for piece in self._pieces:
            self.received += piece


@asynccontextmanager
async def open_page(room: Room, browser: httpx.AsyncClient) -> AsyncIterator[OpenPage]:
    async with browser.stream("GET", f"{room.dashboard}stream/events") as response:
        yield OpenPage(response)


def contains(*texts: str) -> Callable[[str], bool]:
    return lambda received: all(text in received for text in texts)


async def shows(browser: httpx.AsyncClient, room: Room, *texts: str) -> str:
    """Return the account's page once it holds these texts."""
    page = ""
    with anyio.fail_after(SHOWN_WITHIN_S):
        while not all(text in page for text in texts):
            page = (await browser.get(room.dashboard)).text
            await anyio.sleep(ASK_AGAIN_S)
    return page


async def until_ready(browser: httpx.AsyncClient, room: Room, status: int) -> dict[str, Any]:
    """Return what /readyz says once it answers with this status."""
    with anyio.fail_after(15):
        response = await browser.get(f"{room.url}/readyz")
        while response.status_code != status:
            await anyio.sleep(ASK_AGAIN_S)
            response = await browser.get(f"{room.url}/readyz")
    answer: dict[str, Any] = response.json()
    return answer


class TestOverview:
    async def test_it_names_the_account_its_workers_and_the_phase_of_its_market(
        self, database_url: str, browser: httpx.AsyncClient
    ) -> None:
        await save_open_market(database_url)
        async with open_room(database_url) as room:
            await room.report(healthy_workers())

            page = await shows(browser, room, "all well", "2 workers ready")

        assert "market open" in page

        assert "Paper account" in page
        assert "not armed" in page

    async def test_it_shows_that_a_worker_needs_a_person_and_why(self, room: Room, browser: httpx.AsyncClient) -> None:
        stream, healing = healthy_workers()
        await room.report([replace(stream, state="parked", detail="keys refused (401)", restarts=3), healing])

        await shows(browser, room, "needs you", "keys refused (401)")

    async def test_a_worker_that_never_reported_is_shown_as_not_running(
        self, room: Room, browser: httpx.AsyncClient
    ) -> None:
        await room.report(healthy_workers()[:1])

        await shows(browser, room, "impaired", "is the process &#39;room&#39; running?")

    async def test_it_shows_what_a_healed_gap_brought_back(self, room: Room, browser: httpx.AsyncClient) -> None:
        await room.gap(seconds=75, healed=True, orders=14, fills=9)
        await room.gap(seconds=3, healed=False)

        await shows(browser, room, "1 open", "1 min 15 s", "14 orders and 9 fills recovered")

    async def test_a_fill_that_only_rest_told_of_is_marked_as_recovered(
        self, room: Room, browser: httpx.AsyncClient
    ) -> None:
        await room.hear(symbol="HEARD", event="fill")
        missed = await room.order(symbol="MISSED", status="filled", qty="5", price="20")
        await room.fill(missed, str(uuid.uuid4()), source="rest", symbol="MISSED", qty="5", price="20")

        page = await shows(browser, room, "HEARD", "MISSED")

        assert page.count(">recovered<") == 1

    async def test_what_the_broker_says_is_never_markup(self, room: Room, browser: httpx.AsyncClient) -> None:
        await room.hear(symbol=HOSTILE)
        await room.emit("MessageQuarantined", source="stream", reason=HOSTILE)
        await room.report([replace(row, state="retrying", detail=HOSTILE) for row in healthy_workers()])

        page = await shows(browser, room, "&lt;img src=x", "quarantined: &lt;img")

        assert "<img" not in page

    async def test_an_event_of_a_newer_version_keeps_its_name(self, room: Room, browser: httpx.AsyncClient) -> None:
        await room.emit("Comet", tail=1)

        await shows(browser, room, "Comet")


class TestStream:
    async def test_a_page_is_sent_everything_first(self, room: Room, browser: httpx.AsyncClient) -> None:
        await room.hear(symbol="EARLY")
        await shows(browser, room, "EARLY")

        async with open_page(room, browser) as page:
            parts = [f"#{kind}-{SLUG}" for kind in ("head", "counts", "workers", "tape", "gaps", "journal")]
            first = await page.until(contains("#notice", "#installation", *parts, "EARLY", "pulse-paper"))

        assert first.startswith("data: <hx-partial")
        assert page.response.headers["content-type"] == "text/event-stream"

    @pytest.mark.timed
    async def test_an_order_event_is_on_open_pages_within_a_second(
        self, room: Room, browser: httpx.AsyncClient
    ) -> None:
        async with open_page(room, browser) as page, open_page(room, browser) as other:
            await page.until(contains("pulse-paper"))
            await other.until(contains("pulse-paper"))
            started = time.monotonic()

            await room.hear(symbol="NEWS", event="fill", qty="2500", price="12.345")
            news = await page.until(contains("NEWS"), within_s=1)
            await other.until(contains("NEWS"), within_s=1)

        assert time.monotonic() - started < 1
        assert "2,500" in news
        assert "12.345" in news

    async def test_frames_end_in_lf_so_that_no_packet_boundary_can_split_them(
        self, room: Room, browser: httpx.AsyncClient
    ) -> None:
        await room.hear(symbol="LINE\r\nBREAK")

        async with open_page(room, browser) as page:
            received = await page.until(contains("BREAK"))

        assert "\r" not in received
        assert all(line.startswith(("data: ", "event: ", ":")) for line in received.split("\n") if line)

    async def test_it_says_so_when_the_database_is_gone_and_catches_up_when_it_is_back(
        self, database_url: str, browser: httpx.AsyncClient
    ) -> None:
        parts = conninfo_to_dict(database_url)
        upstream = f"{parts['host']}/.s.PGSQL.{parts.get('port', 5432)}"
        async with byte_proxy(upstream) as proxy:
            through = make_conninfo(database_url, host="127.0.0.1", port=proxy.port)
            async with open_room(database_url, pages_conninfo=through) as room, open_page(room, browser) as page:
                await room.report(healthy_workers())
                await until_ready(browser, room, 200)

                proxy.add("down", name="gone")
                await page.until(contains("has not answered since"), within_s=15)
                unready = await until_ready(browser, room, 503)
                await room.hear(symbol="MEANWHILE")
                proxy.remove("gone")
                await page.until(contains("MEANWHILE"), within_s=15)

        assert unready["problems"][0]["worker"] == ""
        assert page.received.rindex('<div id="notice">\ndata: </div>') > page.received.rindex("has not answered")

    async def test_a_page_too_many_is_refused(self, database_url: str, browser: httpx.AsyncClient) -> None:
        async with (
            open_room(database_url, web=WebSettings(max_streams=2)) as room,
            open_page(room, browser) as one,
            open_page(room, browser) as other,
        ):
            await one.until(contains("pulse-paper"))
            await other.until(contains("pulse-paper"))

            refused = await browser.get(f"{room.url}/stream/events")

        assert refused.status_code == 503
        assert "retry-after" in refused.headers

    async def test_a_page_is_sent_the_parts_and_cells_of_its_own_account_only(self) -> None:
        streams = Streams(limit=2)
        with streams.connect("paper") as paper, streams.connect("swing") as swing:
            streams.publish(["paper", "swing"], "notice", b"data: notice\n\n")
            streams.publish(["swing"], "tape", b"data: tape\n\n")
            streams.patch("paper", "open", {"row": {"pl": ("+1.00", "gain")}})

            assert await anext(paper.chunks()) == (
                b'data: notice\n\nevent: px\ndata: {"row":{"pl":["+1.00","gain"]}}\n\n'
            )
            assert await anext(swing.chunks()) == b"data: notice\n\ndata: tape\n\n"

    async def test_of_each_cell_only_the_newest_state_waits_and_a_part_brings_its_own(self) -> None:
        streams = Streams(limit=2)
        streams.publish(["paper"], "open", b"data: first\n\n")
        with streams.connect("paper") as late:
            for number in range(100):
                streams.patch("paper", "open", {"a": {"pl": (str(number),)}})
            streams.patch("paper", "open", {"b": {"pl": ("0",)}})
            with streams.connect("paper") as fresh:
                told = b'data: first\n\nevent: px\ndata: {"a":{"pl":["99"]},"b":{"pl":["0"]}}\n\n'
                assert await anext(late.chunks()) == told
                assert await anext(fresh.chunks()) == told

            streams.patch("paper", "open", {"a": {"pl": ("100",)}})
            streams.publish(["paper"], "open", b"data: second\n\n")

            assert await anext(late.chunks()) == b"data: second\n\n"

    async def test_a_page_that_takes_nothing_gets_only_the_newest_state_later(self) -> None:
        streams = Streams(limit=2)
        with streams.connect("paper") as client:
            for number in range(1000):
                streams.publish(["paper"], "price", events.json_frame("px", number))
                streams.publish(["paper"], "other", b"data: once\n\n")

            chunk = await anext(client.chunks())

        assert chunk == b"data: once\n\nevent: px\ndata: 999\n\n"
        assert streams.dropped == 999

    async def test_a_page_that_takes_nothing_for_too_long_is_let_go(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(events, "SEND_LIMIT_S", 0.05)
        streams = Streams(limit=1)
        streams.publish(["paper"], "price", b"data: 1\n\n")

        async def never(*_: object) -> Any:
            await anyio.sleep_forever()

        async def send(message: Mapping[str, Any]) -> None:
            if message["type"] == "http.response.body":
                await anyio.sleep_forever()

        with anyio.fail_after(2):
            await streams.serve("paper", {"client": ("127.0.0.1", 1)}, never, send)

        assert (len(streams), streams.slow) == (0, 1)

    async def test_silence_is_broken_by_a_heartbeat(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(events, "HEARTBEAT_S", 0.01)

        with Streams(limit=1).connect("paper") as client:
            assert await anext(client.chunks()) == b": hb\n\n"


class TestProbes:
    async def test_alive_needs_no_worker(self, room: Room, browser: httpx.AsyncClient) -> None:
        assert (await browser.get(f"{room.url}/healthz")).json() == {"status": "alive"}

    async def test_ready_names_the_worker_that_is_not_and_why(self, room: Room, browser: httpx.AsyncClient) -> None:
        stream, healing = healthy_workers()
        await room.report([replace(stream, state="retrying", detail="connection refused"), healing])

        answer = await until_ready(browser, room, 503)

        assert answer["problems"] == [{"destination": SLUG, "worker": "stream", "why": "retrying: connection refused"}]

    async def test_ready_when_every_worker_is_ready_or_asleep(self, room: Room, browser: httpx.AsyncClient) -> None:
        stream, healing = healthy_workers()
        await room.report([stream, replace(healing, state="sleeping")])

        assert (await browser.get(f"{room.url}/readyz")).json() == {"ready": True, "problems": []}

    async def test_a_worker_that_fell_silent_is_not_ready(self, room: Room, browser: httpx.AsyncClient) -> None:
        await room.report(healthy_workers())
        async with room.db.transaction() as conn:
            await conn.execute("update accounts.worker_status set updated_at = now() - interval '11 s'")

        answer = await until_ready(browser, room, 503)

        assert [problem["why"] for problem in answer["problems"]] == ["silent: no sign of life; it was ready"] * 2

    async def test_metrics_count_the_lake_and_the_pages(self, room: Room, browser: httpx.AsyncClient) -> None:
        await room.report(healthy_workers())
        await room.hear(event="fill")
        await room.gap(seconds=2, healed=False)
        await shows(browser, room, "1 open", "all well")

        async with open_page(room, browser) as page:
            await page.until(lambda text: '<dt>Fills</dt><dd class="num">1</dd>' in text)
            text = (await browser.get(f"{room.url}/metrics")).text

        samples = {
            (sample.name, frozenset(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        assert samples["coldharbour_rows", frozenset([SLUG, "fills"])] == 1
        assert samples["coldharbour_gaps_open", frozenset([SLUG])] == 1
        assert samples["coldharbour_worker_state", frozenset([SLUG, "stream", "ready"])] == 1
        assert samples["coldharbour_sse_clients", frozenset()] == 1
        assert samples["coldharbour_database_up", frozenset()] == 1

    async def test_the_schema_lists_the_probes(self, room: Room, browser: httpx.AsyncClient) -> None:
        schema = (await browser.get(f"{room.url}/schema")).json()

        assert {"/healthz", "/readyz", "/metrics"} <= set(schema["paths"])


class TestDoor:
    async def test_loopback_names_are_answered(self, room: Room, browser: httpx.AsyncClient) -> None:
        for host in ("localhost", "localhost:5000", "127.0.0.1:1", "[::1]:5000", "LOCALHOST"):
            assert (await browser.get(room.url, headers={"host": host})).status_code == 200, host

    async def test_any_other_host_is_refused_on_every_route(self, room: Room, browser: httpx.AsyncClient) -> None:
        for path in ("/", "/stream/events", "/metrics", "/static/app.css", "/nowhere"):
            for host in ("evil.example", "localhost.evil.example:5000", "127.0.0.1.evil.example", ""):
                refused = await browser.get(room.url + path, headers={"host": host})
                assert refused.status_code == 400, (path, host)

    async def test_another_sites_page_may_link_here_but_not_read_here(
        self, room: Room, browser: httpx.AsyncClient
    ) -> None:
        foreign = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
        link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}

        assert (await browser.get(f"{room.url}/stream/events", headers=foreign)).status_code == 403
        assert (await browser.get(room.url, headers=link)).status_code == 200

    async def test_every_answer_carries_the_security_headers(self, room: Room, browser: httpx.AsyncClient) -> None:
        for path in ("/", "/healthz", "/nowhere", "/static/app.js"):
            headers = (await browser.get(room.url + path)).headers

            assert "default-src 'none'" in headers["content-security-policy"], path
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "same-origin"
            assert "set-cookie" not in headers

    async def test_pages_are_never_stored_and_versioned_files_for_ever(
        self, room: Room, browser: httpx.AsyncClient
    ) -> None:
        page = await browser.get(room.url)
        script = load_assets().url("vendor/htmx.min.js")
        versioned = await browser.get(room.url + script)
        plain = await browser.get(
            room.url + urlsplit(script).path, headers={"if-none-match": versioned.headers["etag"]}
        )

        assert page.headers["cache-control"] == "no-store"
        assert script in page.text
        assert "immutable" in versioned.headers["cache-control"]
        assert plain.status_code == 304

    async def test_nothing_but_static_files_is_served(self, room: Room, browser: httpx.AsyncClient) -> None:
        for path in ("/static/../web/app.py", "/static/%2e%2e/base.html", "/static/vendor", "/static/manifest.json"):
            assert (await browser.get(room.url + path)).status_code == 404, path


class TestLife:
    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])  # noqa: S104 - refused
    async def test_an_address_that_others_can_reach_is_refused(self, database_url: str, host: str) -> None:
        async with open_database(database_url, name="web") as db:
            with pytest.raises(BadConfig, match=r"web\.host"):
                await serve_web(context(db, host=host), NoSettings())

    async def test_a_port_in_use_is_named_with_its_key(self, database_url: str, room: Room) -> None:
        port = urlsplit(room.url).port
        assert port

        async with open_database(database_url, name="web") as db:
            with pytest.raises(NeedsOperator, match=rf"web\.port: port {port} of 127\.0\.0\.1 is in use"):
                await serve_web(context(db, port=port), NoSettings())

    @pytest.mark.timed
    async def test_it_ends_within_a_second_though_pages_are_open_and_one_reads_nothing(
        self, database_url: str, browser: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with open_room(database_url) as room:
            address = urlsplit(room.url)
            frozen = socket.create_connection((address.hostname or "", address.port or 0))
            frozen.sendall(b"GET /stream/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            async with open_page(room, browser) as page:
                await page.until(contains("pulse-paper"))
                started = time.monotonic()

                room.worker.cancel()
                await page.until_the_end()
                await room.ended.wait()

                ended_s = time.monotonic() - started
            frozen.close()

        assert ended_s < 1
        assert not [record for record in caplog.records if record.exc_info]

    async def test_it_can_start_again_at_once_on_the_same_port(
        self, database_url: str, browser: httpx.AsyncClient
    ) -> None:
        async with open_room(database_url) as first:
            await browser.get(first.url)

        async with open_room(database_url, port=urlsplit(first.url).port or 0) as second:
            assert (await browser.get(second.url)).status_code == 200

    def test_missing_scripts_stop_the_start_and_name_the_remedy(self, tmp_path: Path) -> None:
        with pytest.raises(BadConfig, match="scripts of the pages are missing") as refused:
            load_assets(tmp_path)

        assert "pip install" in refused.value.hint


class TestPanels:
    @pytest.fixture
    def package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        name = f"panels_{uuid.uuid4().hex}"
        templates = tmp_path / name / "templates"
        templates.mkdir(parents=True)
        (tmp_path / name / "__init__.py").touch()
        (templates / "greeting.html").write_text("<p>{{ greeting }}</p>")
        monkeypatch.syspath_prepend(os.fspath(tmp_path))
        return name

    async def test_a_plugins_panel_is_shown_and_refreshed_by_its_topic(
        self, database_url: str, browser: httpx.AsyncClient, package: str
    ) -> None:
        async def load(conn: AsyncConnection, slug: str) -> Mapping[str, Any]:
            row = await (await conn.execute("select count(*) from account_activities.raw_orders")).fetchone()
            return {"greeting": f"{slug} & {row}"}

        panel = PanelSpec(
            key="greeting", title="Greetings", package=package, template="greeting.html", topic="raw_channel", load=load
        )
        async with open_room(database_url, panels=[panel]) as room, open_page(room, browser) as page:
            await page.until(contains("Greetings", f"{SLUG} &amp; (0,)"))

            await room.hear()

            await page.until(contains(f"{SLUG} &amp; (1,)"))

    async def test_a_failing_panel_says_so_and_leaves_the_card_alone(
        self, database_url: str, browser: httpx.AsyncClient, package: str
    ) -> None:
        async def load(_conn: AsyncConnection, _slug: str) -> Mapping[str, Any]:
            raise LookupError("no moon tonight")

        panel = PanelSpec(
            key="moon", title="Moon", package=package, template="greeting.html", topic="raw_channel", load=load
        )
        async with open_room(database_url, panels=[panel]) as room:
            await room.hear(symbol="FINE")

            await shows(browser, room, "cannot be shown", "LookupError: no moon tonight", "FINE")


def test_json_frames_are_one_line() -> None:
    frame = events.json_frame("px", {"note": "a\nb\u2028c"}).decode()

    name, data, *rest = frame.split("\n")
    assert (name, rest) == ("event: px", ["", ""])
    assert json.loads(data.removeprefix("data: ")) == {"note": "a\nb\u2028c"}
