"""Connections under the faults of reliability: dead, frozen and full databases, cancelled and slow callers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import anyio
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from coldharbour.connect import session_conninfo
from coldharbour.db import (
    BEGIN_S,
    MAX_PAYLOAD_BYTES,
    RESYNC,
    Database,
    Note,
    StorageFull,
    Subscription,
    masked,
    normalize_url,
    notify,
    open_database,
    wait_for_database,
)
from coldharbour.embedded import embedded_server
from coldharbour.errors import BadConfig, Transient
from coldharbour.listen import MAX_QUEUED_NOTES

pytestmark = pytest.mark.anyio

NOTICED_WITHIN_S = 12
WORKS_WITHIN_S = 5


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url, name="test") as database:
        async with database.transaction() as conn:
            await conn.execute("create table item (n int primary key)")
        yield database


async def ask(db: Database, query: str) -> object:
    async with db.transaction() as conn:
        row = await (await conn.execute(query.encode())).fetchone()
    assert row
    return row[0]


async def items(db: Database) -> object:
    return await ask(db, "select coalesce(array_agg(n order by n), '{}') from item")


async def add(db: Database, n: int) -> None:
    async with db.transaction() as conn:
        await conn.execute("insert into item values (%s)", [n])


async def pipeline(db: Database, *statements: bytes, is_read: bool = False) -> None:
    async with db.transaction(pipelined=True) as conn:
        for statement in statements:
            await conn.execute(statement)
        if is_read:
            await (await conn.execute("select 1")).fetchone()


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a server process as a swapped-out or hung machine would; its connection stays open."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def postmaster_of(backend: int) -> int:
    return int(Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[1])


async def kill_server_of(backend: int) -> None:
    """End a server as a power cut would; return when this process of it is gone: it may serve a while longer."""
    watched = os.pidfd_open(backend)
    os.kill(postmaster_of(backend), signal.SIGKILL)
    try:
        with anyio.fail_after(NOTICED_WITHIN_S):
            await anyio.wait_readable(watched)
    finally:
        os.close(watched)


class TestTransaction:
    async def test_commits_after_the_block(self, db: Database) -> None:
        await add(db, 1)

        assert await items(db) == [1]

    async def test_rolls_back_when_the_block_raises(self, db: Database) -> None:
        async def fail_halfway() -> None:
            async with db.transaction() as conn:
                await conn.execute("insert into item values (1)")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail_halfway()

        assert await items(db) == []

    async def test_a_callers_mistake_is_not_disguised(self, db: Database) -> None:
        with pytest.raises(psycopg.errors.UniqueViolation):
            async with db.transaction() as conn:
                await conn.execute("insert into item values (1), (1)")
        with pytest.raises(psycopg.errors.UndefinedTable):
            await ask(db, "select 1 from nowhere")

    async def test_a_swallowed_error_does_not_look_like_a_commit(self, db: Database) -> None:
        async def swallow() -> None:
            async with db.transaction() as conn:
                await conn.execute("insert into item values (1)")
                with suppress(psycopg.errors.UndefinedTable):
                    await conn.execute("select 1 from nowhere")

        with pytest.raises(RuntimeError, match="swallowed"):
            await swallow()
        async with db.transaction() as conn:
            await conn.execute("insert into item values (2)")
            with suppress(psycopg.errors.UndefinedTable):
                async with conn.transaction():
                    await conn.execute("select 1 from nowhere")

        assert await items(db) == [2]

    async def test_is_finished_although_its_task_was_cancelled(self, db: Database) -> None:
        begun = anyio.Event()

        async def work() -> None:
            async with db.transaction() as conn:
                await conn.execute("insert into item values (1)")
                begun.set()
                await conn.execute("select pg_sleep(0.2)")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            await begun.wait()
            tasks.cancel_scope.cancel()

        assert await items(db) == [1]
        assert await ask(db, "select count(*) from pg_stat_activity where state like 'idle in trans%'") == 0

    async def test_a_slow_query_is_ended_and_undone(self, db: Database) -> None:
        async def query_slowly() -> None:
            async with db.transaction(timeout_s=0.3) as conn:
                await conn.execute("insert into item values (1)")
                await conn.execute("select pg_sleep(30)")

        with pytest.raises(Transient, match=r"statement timeout|did not answer within 0\.3 s"):
            await query_slowly()

        assert await items(db) == []

    async def test_a_block_that_waits_for_something_else_is_ended_and_undone(self, db: Database) -> None:
        async def dawdle() -> None:
            async with db.transaction(timeout_s=0.3) as conn:
                await conn.execute("insert into item values (1)")
                await anyio.sleep_forever()

        with pytest.raises(Transient, match=r"took more than 0\.3 s"):
            await dawdle()

        assert await items(db) == []

    async def test_a_long_one_may_have_long_statements(self, db: Database) -> None:
        async with db.transaction(timeout_s=60) as conn:
            row = await (await conn.execute("select current_setting('statement_timeout')")).fetchone()

        assert row == ("1min",)
        assert await ask(db, "select current_setting('statement_timeout')") == "7s"

    @pytest.mark.parametrize("state", ["53100", "25006"])
    async def test_a_full_or_read_only_disk_is_told_apart(self, db: Database, state: str) -> None:
        with pytest.raises(StorageFull) as failure:
            async with db.transaction() as conn:
                await conn.execute(f"do $$ begin raise exception using errcode = '{state}'; end $$".encode())

        assert failure.value.retry_after_s == 30

    @pytest.mark.timed
    async def test_a_busy_pool_turns_away_after_five_seconds(self, database_url: str) -> None:
        async with (
            open_database(database_url, name="busy", max_size=1) as db,
            db.transaction(timeout_s=20),
        ):
            started = time.monotonic()
            with pytest.raises(Transient, match="no database connection within 5 s"):
                await ask(db, "select 1")

        assert 4.5 < time.monotonic() - started < 6


class TestPipelinedTransaction:
    """Statements are sent ahead of their answers: what fails is told late, but told, and undoes everything."""

    GOOD, BAD = b"insert into item values (1)", b"insert into item values (2), (2)"

    @pytest.mark.parametrize("statements", [[BAD], [GOOD, BAD], [BAD, GOOD], [GOOD, BAD, GOOD, GOOD]])
    @pytest.mark.parametrize("is_read", [True, False])
    async def test_a_failed_statement_is_raised_itself_and_undoes_all_others(
        self, db: Database, statements: list[bytes], is_read: bool
    ) -> None:
        with pytest.raises(psycopg.errors.UniqueViolation):
            await pipeline(db, *statements, is_read=is_read)

        assert await items(db) == []
        assert await ask(db, "select count(*) from pg_stat_activity where state like 'idle in trans%'") == 0

    async def test_an_error_that_is_swallowed_fails_the_transaction_all_the_same(self, db: Database) -> None:
        async def swallow(statement: bytes) -> None:
            async with db.transaction(pipelined=True) as conn:
                await conn.execute("insert into item values (1)")
                with suppress(psycopg.Error):
                    await (await conn.execute(statement)).fetchone()
                with suppress(psycopg.Error):
                    await conn.execute("insert into item values (3)")

        for statement in (b"insert into item values (2), (2) returning n", b"select 1 from nowhere"):
            with pytest.raises(RuntimeError, match="swallowed"):
                await swallow(statement)

        assert await items(db) == []

    async def test_a_commit_that_is_refused_is_raised(self, db: Database) -> None:
        async with db.transaction() as conn:
            await conn.execute("create table part (n int references item deferrable initially deferred)")

        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            await pipeline(db, b"insert into item values (1)", b"insert into part values (2)")

        assert await items(db) == []

    async def test_a_full_disk_is_told_apart(self, db: Database) -> None:
        with pytest.raises(StorageFull):
            await pipeline(db, b"do $$ begin raise exception using errcode = '53100'; end $$", self.GOOD)

    async def test_a_connection_that_dies_in_it_is_a_failure_that_passes(self, db: Database) -> None:
        with pytest.raises(Transient, match="the database failed"):
            await pipeline(db, self.GOOD, b"select pg_terminate_backend(pg_backend_pid())")
        await add(db, 2)

        assert await items(db) == [2]


class TestDeadDatabase:
    async def test_connections_that_died_cost_no_caller_an_error(self, db: Database, postgres: str) -> None:
        async with anyio.create_task_group() as tasks:
            for n in range(4):
                tasks.start_soon(add, db, n)
        with psycopg.connect(postgres) as admin:
            admin.execute(
                "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
                " where application_name = 'coldharbour/test' and datname = %s",
                [conninfo_to_dict(db.conninfo)["dbname"]],
            )

        async with anyio.create_task_group() as tasks:
            for n in range(4, 8):
                tasks.start_soon(add, db, n)

        assert await items(db) == list(range(8))

    async def test_a_killed_server_is_used_again(self, db: Database) -> None:
        backend = await ask(db, "select pg_backend_pid()")
        assert isinstance(backend, int)
        await kill_server_of(backend)
        await wait_for_database(db.conninfo)
        answered_at = time.monotonic()

        while True:
            try:
                await add(db, 1)
                break
            except Transient:
                assert time.monotonic() - answered_at < WORKS_WITHIN_S

        assert await items(db) == [1]

    @pytest.mark.timed
    async def test_frozen_idle_connections_are_replaced(self, db: Database) -> None:
        async with anyio.create_task_group() as tasks:
            for n in range(4):
                tasks.start_soon(add, db, n)
        pooled = await ask(
            db, "select array_agg(pid) from pg_stat_activity where application_name = 'coldharbour/test'"
        )
        assert isinstance(pooled, list)
        with ExitStack() as thaw:
            for backend in pooled:
                thaw.enter_context(frozen(backend))
            started = time.monotonic()
            await add(db, 4)

            assert BEGIN_S < time.monotonic() - started < WORKS_WITHIN_S
        assert await items(db) == [0, 1, 2, 3, 4]

    async def test_a_connection_that_freezes_at_work_is_noticed(self, db: Database) -> None:
        async def freeze_at_work() -> None:
            async with db.transaction() as conn:
                with frozen(conn.info.backend_pid):
                    await conn.execute("select 1")

        started = time.monotonic()
        with pytest.raises(Transient, match="did not answer within 8 s"):
            await freeze_at_work()
        noticed = time.monotonic()
        await add(db, 1)

        assert noticed - started < NOTICED_WITHIN_S
        assert time.monotonic() - noticed < WORKS_WITHIN_S

    async def test_waiting_for_a_database_ends_when_it_is_there(self, open_folder: Path) -> None:
        home = open_folder / "postgres"
        async with embedded_server(home, settings={"fsync": "off"}) as conninfo:
            pass
        answered = anyio.Event()

        async def wait() -> None:
            await wait_for_database(conninfo)
            answered.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            with anyio.move_on_after(0.3):
                await answered.wait()
            assert not answered.is_set()
            async with embedded_server(home):
                with anyio.fail_after(6):
                    await answered.wait()


async def next_note(notes: Subscription, within_s: float = WORKS_WITHIN_S) -> Note:
    with anyio.fail_after(within_s):
        return await anext(notes)


async def listening_backend(db: Database) -> int:
    pid = await ask(db, "select pid from pg_stat_activity where application_name like '%/listen'")
    assert isinstance(pid, int)
    return pid


class TestListener:
    async def test_each_subscription_hears_its_channels_in_order(self, db: Database) -> None:
        async with db.listener() as listener:
            first, both = listener.subscribe("a"), listener.subscribe("a", "b")
            assert await next_note(first) is RESYNC
            assert await next_note(both) is RESYNC

            await notify(db, "a", "1", "2")
            await notify(db, "b", "3")

            assert [await next_note(first) for _ in range(2)] == [Note("a", "1"), Note("a", "2")]
            heard = [await next_note(both) for _ in range(3)]
            assert heard == [Note("a", "1"), Note("a", "2"), Note("b", "3")]

    async def test_one_connection_serves_all_subscriptions(self, db: Database) -> None:
        async with db.listener() as listener:
            for channel in ("a", "b", "c"):
                await next_note(listener.subscribe(channel))

            count = await ask(
                db,
                "select count(*) from pg_stat_activity"
                " where application_name like '%/listen' and datname = current_database()",
            )

        assert count == 1

    @pytest.mark.timed
    async def test_a_note_takes_milliseconds(self, db: Database) -> None:
        async with db.listener() as listener:
            notes = listener.subscribe("a")
            await next_note(notes)
            delays = []
            for n in range(50):
                sent_at = time.monotonic()
                await notify(db, "a", str(n))
                assert await next_note(notes) == Note("a", str(n))
                delays.append(time.monotonic() - sent_at)

        assert sorted(delays)[25] < 0.05

    async def test_no_note_is_lost_in_a_flood(self, db: Database) -> None:
        heard = []
        async with db.listener() as listener:
            notes = listener.subscribe("a")
            await next_note(notes)

            for start in range(0, 20_000, 500):
                await notify(db, "a", *map(str, range(start, start + 500)))
                heard += [(await next_note(notes)).payload for _ in range(500)]

        assert heard == [str(n) for n in range(20_000)]

    async def test_a_reader_that_is_too_slow_is_told_to_read_everything(self, db: Database) -> None:
        async with db.listener() as listener:
            slow, quick = listener.subscribe("a"), listener.subscribe("a")
            await next_note(slow)
            await next_note(quick)

            payloads = [str(n) for n in range(MAX_QUEUED_NOTES + 1)]
            for part in (payloads[:600], payloads[600:]):
                await notify(db, "a", *part)
                assert [(await next_note(quick)).payload for _ in part] == part

            assert await next_note(slow) is RESYNC

    async def test_after_a_restart_it_listens_again_and_says_so(self, db: Database) -> None:
        async with db.listener() as listener:
            notes = listener.subscribe("a")
            await next_note(notes)
            await kill_server_of(await listening_backend(db))
            await wait_for_database(db.conninfo)

            assert await next_note(notes, within_s=WORKS_WITHIN_S) is RESYNC
            await notify(db, "a", "after")
            assert await next_note(notes) == Note("a", "after")

    async def test_a_frozen_server_process_is_noticed_and_replaced(self, db: Database) -> None:
        async with db.listener() as listener:
            notes = listener.subscribe("a")
            await next_note(notes)
            with frozen(await listening_backend(db)):
                assert await next_note(notes, within_s=NOTICED_WITHIN_S) is RESYNC
                assert listener.silent_s < WORKS_WITHIN_S

                await notify(db, "a", "after")
                assert await next_note(notes) == Note("a", "after")

    async def test_subscriptions_end_with_their_block_or_with_the_listener(self, db: Database) -> None:
        async with db.listener() as listener:
            rest = listener.subscribe("a")
            async with listener.subscribe("b") as notes:
                await next_note(notes)
            assert [note async for note in notes] == []

        assert [note async for note in rest] in ([], [RESYNC])

    @pytest.mark.parametrize("channel", ["", "Upper", "a-b", "x" * 64, "ä", 'a"b', "1a"])
    async def test_channels_that_would_be_folded_or_cut_are_refused(self, db: Database, channel: str) -> None:
        async with db.listener() as listener:
            with pytest.raises(ValueError, match="not a channel name"):
                listener.subscribe(channel)
        with pytest.raises(ValueError, match="not a channel name"):
            await notify(db, channel, "")


class TestNotify:
    async def test_the_longest_channel_and_payload_arrive(self, db: Database) -> None:
        channel, payload = "x" * 63, "é" * (MAX_PAYLOAD_BYTES // 2)
        async with db.listener() as listener:
            notes = listener.subscribe(channel)
            await next_note(notes)

            await notify(db, channel, payload)

            assert await next_note(notes) == Note(channel, payload)
        with pytest.raises(ValueError, match="send the key instead"):
            await notify(db, channel, payload + "é")

    async def test_a_failure_is_counted_and_not_raised(self, db: Database, postgres: str) -> None:
        database = str(conninfo_to_dict(db.conninfo)["dbname"])
        with psycopg.connect(postgres, dbname=database) as admin:
            admin.execute("revoke execute on function pg_notify from public")

        await notify(db, "a", "1", "2")

        assert db.failed_notifies == 2


class TestUrl:
    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://ann:s3cret@db.example:5433/harbour",
            "postgres://ann:s3cret@db.example:5433/harbour",
            "postgresql+psycopg2://ann:s3cret@db.example:5433/harbour",
            "postgresql+psycopg://ann:s3cret@db.example:5433/harbour",
            "postgresql+asyncpg://ann:s3cret@db.example:5433/harbour",
            " host=db.example port=5433 user=ann password=s3cret dbname=harbour ",
        ],
    )
    def test_every_usual_form_is_understood(self, url: str) -> None:
        expected = {"host": "db.example", "port": "5433", "user": "ann", "password": "s3cret", "dbname": "harbour"}

        assert conninfo_to_dict(normalize_url(url)) == expected
        assert "s3cret" not in masked(url)
        assert "db.example" in masked(url)

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "postgresql://ann:s3cret@@h/d",
            "postgresql://ann:1/s3cret@h/d",
            "mysql://ann:s3cret@h/d",
            "postgresql://ann:s3c/ret@h:s3cret/d",
            "password=s3cret colour=blue",
        ],
    )
    def test_what_cannot_be_read_is_refused_without_quoting_it(self, url: str) -> None:
        with pytest.raises(BadConfig) as refusal:
            normalize_url(url)

        assert "s3cret" not in f"{refusal.value} {refusal.value.hint} {refusal.value.__cause__}"
        assert refusal.value.__suppress_context__ or refusal.value.__context__ is None
        assert "s3cret" not in masked(url)

    def test_what_the_operator_wrote_wins_over_our_timeouts(self) -> None:
        session = conninfo_to_dict(session_conninfo("host=h connect_timeout=30 options='-c work_mem=8MB'", "web"))

        assert session["connect_timeout"] == "30"
        assert session["tcp_user_timeout"] == "8000"
        assert session["application_name"] == "coldharbour/web"
        assert str(session["options"]).endswith("-c work_mem=8MB")
