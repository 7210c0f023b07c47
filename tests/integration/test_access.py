"""Access to the pages over real sockets: who gets in, who does not, and when it ends."""

from __future__ import annotations

import hashlib
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import httpx
import pytest
import structlog
from fakes.room import CANARY, Room, healthy_workers, open_room
from fakes.visitors import HOST, ORIGIN, PASSWORD, Visitor, hashes, token_of, with_passwords

from coldharbour.clock import VirtualClock
from coldharbour.sections import AuthSettings, WebSettings
from coldharbour.web import guard
from coldharbour.web.access.login import safe_path

pytestmark = pytest.mark.anyio

ROUTES = (
    "/", "/paper", "/paper/partials/workers", "/stream/events", "/paper/stream/events", "/paper/api/positions",
    "/readyz", "/metrics", "/schema", "/logout", "/paper/actions/pause?worker=stream", "/paper/requests/1", "/nowhere",
)  # fmt: skip
PATIENCE_S = 20.0


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=20) as opened:
        yield opened


@pytest.fixture(scope="module")
def standing() -> VirtualClock:
    """The time of the shared pages: it stands still unless a test moves it."""
    return VirtualClock(datetime.now(UTC))


@pytest.fixture
def clock(standing: VirtualClock) -> VirtualClock:
    """The same, so much later that every login, wait and rate of the tests before is over."""
    standing.advance(90_000)
    return standing


@pytest.fixture(scope="module")
async def pages(shared_database_url: str, standing: VirtualClock) -> AsyncIterator[Room]:
    """Pages that ask for a password."""
    web = with_passwords(actions=True)
    async with open_room(shared_database_url, web=web, hashes=hashes(), clock=standing) as opened:
        yield opened


@pytest.fixture
def room(pages: Room, clock: VirtualClock) -> Room:
    return pages


@pytest.fixture
def anna(room: Room, client: httpx.AsyncClient) -> Visitor:
    return Visitor(room.url, client)


class TestStrangers:
    async def test_they_see_nothing_but_the_login_its_looks_and_that_the_process_lives(self, anna: Visitor) -> None:
        for path in ROUTES:
            refused = await anna.get(path)
            unseen = await anna.post(path, {})

            assert refused.status_code == 303, path
            assert refused.headers["location"].startswith("/login?next=/"), path
            assert unseen.status_code == 401, path
            assert "Paper account" not in refused.text + unseen.text
        assert [(await anna.get(path)).status_code for path in ("/login", "/healthz", "/static/app.css")] == [200] * 3

    async def test_a_stream_or_a_script_is_never_redirected(self, anna: Visitor, client: httpx.AsyncClient) -> None:
        asked = [
            await client.get(f"{anna.url}/stream/events", headers={"host": HOST, "accept": "text/event-stream"}),
            await anna.get("/paper/partials/workers", **{"hx-request": "true"}),
            await anna.get("/paper/api/positions", **{"sec-fetch-mode": "cors"}),
        ]

        assert [response.status_code for response in asked] == [401] * 3

    async def test_this_machines_own_probes_are_answered_and_forwarded_ones_are_not(self, anna: Visitor) -> None:
        local = Visitor(anna.url, anna.client, host="localhost")

        for path in ("/readyz", "/metrics", "/schema"):
            assert (await local.get(path)).status_code in (200, 503), path
            assert (await local.get(path, **{"x-forwarded-for": "198.51.100.7"})).status_code == 303, path
        assert (await local.get("/paper")).status_code == 303

    async def test_another_host_is_refused_whatever_it_says(self, anna: Visitor) -> None:
        for host in (
            "evil.example",
            f"{HOST}.evil.example",
            f"evil.{HOST}",
            f"{HOST}:81",
            "10.0.0.1",
            "",
            "localhost.evil",
        ):
            anna.host = host
            assert (await anna.get("/login", **{"x-forwarded-host": HOST})).status_code == 400, host


class TestLogin:
    async def test_the_right_password_opens_the_page_that_was_wanted(self, anna: Visitor) -> None:
        turned_away = await anna.get("/paper")

        answer = await anna.log_in(after=turned_away.headers["location"].partition("next=")[2])

        assert (answer.status_code, answer.headers["location"]) == (303, "/paper")
        assert (await anna.get("/paper")).status_code == 200

    async def test_over_https_the_cookie_belongs_to_one_host_and_to_no_script(self, anna: Visitor) -> None:
        answer = await anna.log_in()

        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-coldharbour-session=")
        assert {"Path=/", "HttpOnly", "SameSite=Strict", "Secure"} <= set(cookie.split("; "))
        assert "Domain" not in cookie

    async def test_on_loopback_it_works_without_https(self, anna: Visitor) -> None:
        local = Visitor(anna.url, anna.client, host="localhost:5000")

        answer = await local.log_in()

        assert answer.headers["set-cookie"].startswith("coldharbour-session=")
        assert "Secure" not in answer.headers["set-cookie"]
        assert (await local.get("/paper")).status_code == 200

    @pytest.mark.parametrize("password", ["", "wrong", PASSWORD.lower(), f"{PASSWORD} ", "\x00", "é" * 2_000])
    async def test_any_other_password_is_refused(self, anna: Visitor, password: str) -> None:
        answer = await anna.log_in(password=password)

        assert answer.status_code == 401
        assert (await anna.get("/paper")).status_code == 303

    async def test_a_cookie_that_was_planted_before_gains_nothing(self, anna: Visitor) -> None:
        anna.cookies["__Host-coldharbour-session"] = "planted"

        await anna.log_in()

        assert anna.session != "planted"
        thief = Visitor(anna.url, anna.client, cookies={"__Host-coldharbour-session": "planted"})
        assert (await thief.get("/paper")).status_code == 303

    async def test_logging_in_again_ends_the_login_before(self, anna: Visitor) -> None:
        await anna.log_in()
        first = Visitor(anna.url, anna.client, cookies=dict(anna.cookies))
        page = await anna.get("/logout")

        await anna.post("/login", {"token": token_of(page), "user": "ben", "password": PASSWORD})

        assert (await first.get("/paper")).status_code == 303
        assert (await anna.get("/paper")).status_code == 200

    async def test_it_outlives_a_restart_and_only_its_hash_is_kept(
        self, anna: Visitor, room: Room, shared_database_url: str, clock: VirtualClock
    ) -> None:
        await anna.log_in()
        async with room.db.transaction() as conn:
            kept = await (await conn.execute("select id_hash, account from accounts.web_sessions")).fetchall()

        async with open_room(shared_database_url, web=with_passwords(), hashes=hashes(), clock=clock) as again:
            anna.url = again.url
            assert (await anna.get("/paper")).status_code == 200

        assert [(bytes(id_hash), account) for id_hash, account in kept] == [
            (hashlib.sha256(anna.session.encode()).digest(), "anna")
        ]

    @pytest.mark.parametrize(
        "path",
        [
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "\\\\evil",
            "javascript:alert(1)",
            "/a\r\nb",
            "",
            "x",
        ],
    )
    def test_it_never_leads_to_another_site(self, path: str) -> None:
        assert safe_path(path) == "/"


class TestBruteForce:
    async def test_after_five_failures_even_the_right_password_must_wait(
        self, anna: Visitor, clock: VirtualClock
    ) -> None:
        for _ in range(5):
            assert (await anna.log_in(password="guess")).status_code == 401

        too_early = await anna.log_in()
        clock.advance(1)
        in_time = await anna.log_in()

        assert (too_early.status_code, too_early.headers["retry-after"]) == (429, "1")
        assert in_time.status_code == 303

    async def test_many_guesses_at_once_get_no_more_tries_than_one_after_another(self, anna: Visitor) -> None:
        token, answers = token_of(await anna.get("/login")), []

        async def guess() -> None:
            form = {"token": token, "user": "anna", "password": "guess"}
            answers.append((await anna.post("/login", form)).status_code)

        async with anyio.create_task_group() as tasks:
            for _ in range(9):
                tasks.start_soon(guess)

        assert sorted(answers) == [401] * 5 + [429] * 4

    async def test_a_flood_of_logins_is_refused_before_anything_is_looked_at(self, anna: Visitor) -> None:
        answers = [(await anna.post("/login", {})).status_code for _ in range(12)]

        assert answers == [403] * 10 + [429] * 2


class TestForms:
    @pytest.mark.parametrize("token", ["", "0" * 64, "not hexadecimal ü"])
    async def test_without_the_token_of_its_session_nothing_is_changed(self, anna: Visitor, token: str) -> None:
        await anna.log_in()

        for path in ("/logout", "/paper/actions/pause?worker=stream", "/nowhere"):
            assert (await anna.post(path, {"token": token})).status_code == 403, path
        assert (await anna.get("/paper")).status_code == 200

    async def test_the_token_of_another_session_does_not_fit(self, anna: Visitor) -> None:
        ben = Visitor(anna.url, anna.client)
        await anna.log_in()
        await ben.log_in("ben")
        stolen = token_of(await ben.get("/logout"))

        assert (await anna.post("/logout", {"token": stolen})).status_code == 403

    async def test_a_form_of_another_site_is_refused_even_with_the_right_token(self, anna: Visitor) -> None:
        await anna.log_in()
        token = token_of(await anna.get("/logout"))

        for headers in (
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"origin": f"http://{HOST}"},
            {"origin": f"{ORIGIN}:444"},
            {"origin": "http://localhost:9999"},
            {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
            {"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate"},
        ):
            assert (await anna.post("/logout", {"token": token}, **headers)).status_code == 403, headers
        assert (await anna.post("/logout", {"token": token})).status_code == 303

    async def test_no_form_can_be_sent_by_a_link(self, anna: Visitor) -> None:
        await anna.log_in()
        token = token_of(await anna.get("/logout"))

        await anna.get(f"/logout?token={token}")
        await anna.get(f"/paper/actions/pause?worker=stream&token={token}")

        assert (await anna.get("/paper")).status_code == 200


class TestEnds:
    async def test_a_login_ends_when_it_is_not_used_for_an_hour(self, anna: Visitor, clock: VirtualClock) -> None:
        await anna.log_in()

        clock.advance(3_599)
        assert (await anna.get("/paper")).status_code == 200
        clock.advance(3_600)
        assert (await anna.get("/paper")).status_code == 303

    async def test_it_ends_after_twelve_hours_however_much_it_is_used(self, anna: Visitor, clock: VirtualClock) -> None:
        await anna.log_in()

        answers = []
        for _ in range(24):
            clock.advance(1_800)
            answers.append((await anna.get("/paper")).status_code)

        assert answers == [200] * 23 + [303]

    async def test_logging_out_ends_the_open_stream_and_the_cookie(self, anna: Visitor, room: Room) -> None:
        await anna.log_in()
        async with self.stream(anna) as response:
            pieces = response.aiter_text()
            await anext(pieces)

            await anna.post("/logout", {"token": token_of(await anna.get("/logout"))})
            with anyio.fail_after(PATIENCE_S):
                async for _ in pieces:
                    pass
        assert (await anna.get("/paper")).status_code == 303

    async def test_an_open_stream_ends_with_its_login_and_keeps_it_in_use_until_then(
        self, anna: Visitor, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(guard, "RECHECK_S", 0.02)
        await anna.log_in()
        async with self.stream(anna) as response:
            pieces = response.aiter_text()
            await anext(pieces)

            clock.advance(43_200)
            with anyio.fail_after(PATIENCE_S):
                async for _ in pieces:
                    pass
        assert (await anna.get("/paper")).status_code == 303

    @staticmethod
    def stream(visitor: Visitor) -> AbstractAsyncContextManager[httpx.Response]:
        headers = {"host": visitor.host, "cookie": f"__Host-coldharbour-session={visitor.session}"}
        return visitor.client.stream("GET", f"{visitor.url}/stream/events", headers=headers)


class TestOtherProofs:
    async def test_without_a_login_what_came_through_a_proxy_is_refused(
        self, database_url: str, client: httpx.AsyncClient
    ) -> None:
        async with open_room(database_url) as room:
            local = Visitor(room.url, client, host="localhost")

            assert (await local.get("/")).status_code == 200
            for header in ("x-forwarded-for", "cf-connecting-ip", "forwarded", "via"):
                assert (await local.get("/", **{header: "198.51.100.7"})).status_code == 401, header

    @pytest.mark.parametrize(("proxy", "status"), [("127.0.0.1", 200), ("10.0.0.1", 401)])
    async def test_a_proxys_word_counts_and_anybody_elses_does_not(
        self, database_url: str, client: httpx.AsyncClient, proxy: str, status: int
    ) -> None:
        auth = AuthSettings(mode="proxy", proxies=(proxy,), user_header="X-Remote-User")
        async with open_room(database_url, web=WebSettings(origins=(ORIGIN,), auth=auth)) as room:
            visitor = Visitor(room.url, client)

            assert (await visitor.get("/", **{"x-remote-user": "anna"})).status_code == status
            assert (await visitor.get("/", **{"x-forwarded-user": "anna"})).status_code == 401
            assert (await visitor.get("/", **{"x-remote-user": ""})).status_code == 401

    async def test_behind_cloudflare_an_email_header_or_an_unsigned_assertion_opens_nothing(
        self, database_url: str, client: httpx.AsyncClient
    ) -> None:
        auth = AuthSettings(mode="cloudflare", team="harbour", audience="f00d")
        unsigned = "eyJhbGciOiJub25lIiwia2lkIjoiMSJ9.eyJlbWFpbCI6ImV2ZUBleGFtcGxlLm9yZyJ9."
        async with open_room(database_url, web=WebSettings(origins=(ORIGIN,), auth=auth)) as room:
            visitor = Visitor(room.url, client)

            answers = [
                await visitor.get("/", **{"cf-access-authenticated-user-email": "anna@example.org"}),
                await visitor.get("/", **{"cf-access-jwt-assertion": unsigned}),
                await visitor.get("/", cookie=f"CF_Authorization={unsigned}"),
            ]

        assert [answer.status_code for answer in answers] == [401] * 3


class TestBodies:
    @staticmethod
    async def answered(room: Room, request: bytes) -> bytes:
        """Return the first line of the answer to a request that is sent as it is, and not ended."""

        def talk() -> bytes:
            address = urlsplit(room.url)
            with socket.create_connection((address.hostname or "", address.port or 0), timeout=PATIENCE_S) as peer:
                peer.sendall(request)
                return peer.recv(1_000).partition(b"\r\n")[0]

        return await anyio.to_thread.run_sync(talk)

    async def test_ten_megabytes_are_refused_before_a_byte_of_them_came(self, room: Room) -> None:
        for verb in (b"POST /login", b"POST /logout", b"GET /login", b"PUT /nowhere"):
            head = verb + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n"

            assert await self.answered(room, head) == b"HTTP/1.1 413 Request Entity Too Large"

    async def test_one_of_unknown_length_is_read_no_further_than_the_limit(self, room: Room) -> None:
        head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"

        answer = await self.answered(room, head + b"10001\r\n" + b"x" * 0x10001 + b"\r\n")

        assert answer == b"HTTP/1.1 413 Request Entity Too Large"


async def test_no_secret_is_ever_logged_or_shown(room: Room, anna: Visitor, caplog: pytest.LogCaptureFixture) -> None:
    await room.report(healthy_workers())
    shown = []
    with caplog.at_level(logging.DEBUG), structlog.testing.capture_logs() as logged:
        shown.append(await anna.log_in(password=f"{PASSWORD}!"))
        shown.append(await anna.log_in(user=PASSWORD))  # typed into the wrong field
        shown.append(await anna.log_in())
        shown += [await anna.get(path) for path in (*ROUTES, "/login") if "/events" not in path]
        shown.append(await anna.post("/login", {"token": "x", "password": PASSWORD}))

    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]  # not our client's
    seen = "".join(response.text for response in shown) + repr(ours) + repr(logged)
    assert len(ours) > len(ROUTES)
    assert CANARY not in seen
    assert anna.session not in seen
    assert "$argon2" not in seen
    assert [entry["user"] for entry in logged if entry["event"] == "login.failed"] == ["anna", "(unknown)"]
