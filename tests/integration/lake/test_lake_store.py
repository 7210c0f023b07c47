"""The lake's tables keep their promises: nothing lost, nothing twice, the same end from any order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from itertools import permutations, product
from random import Random
from uuid import UUID

import anyio
import psycopg
import pytest
import structlog.testing
from fakes.lake import (
    NOON,
    SLUG,
    Json,
    activity,
    cash_json,
    family,
    fill_json,
    frame,
    name,
    one,
    open_lake,
    order,
    order_json,
    rows,
    text,
    told,
    update_json,
)

from coldharbour.broker import Malformed
from coldharbour.broker import translate as broker_text
from coldharbour.clock import VirtualClock
from coldharbour.db import StorageFull
from coldharbour.lake import store
from coldharbour.lake.completeness import store as completeness
from coldharbour.lake.completeness.store import Cursor
from coldharbour.lake.model import harvest_order
from coldharbour.lake.writer import COPIED_FROM, ITEMS_AT_ONCE, Lake

pytestmark = pytest.mark.anyio


@pytest.fixture
async def lake(database_url: str) -> AsyncIterator[Lake]:
    async with open_lake(database_url) as opened:
        yield opened


def bracket(*, at: float = 0, status: str = "new", take: str = "held", stop: str = "held", **changes: object) -> Json:
    legs = [
        order_json("take", at=at, status=take, order_class="bracket", side="sell"),
        order_json("stop", at=at, status=stop, order_class="bracket", side="sell", type="stop", limit_price=None),
    ]
    return order_json("entry", at=at, status=status, order_class="bracket", legs=legs, **changes)


async def count(lake: Lake, table: str) -> int:
    return len(await rows(lake, table))


# --- once and only once


async def test_the_same_page_twice_changes_nothing_and_reports_nothing(lake: Lake) -> None:
    orders = [order(bracket()), order(order_json("plain"))]
    activities = [activity(fill_json("e")), activity(cash_json("dividend"))]
    first = await lake.write_orders(orders), await lake.write_activities(activities)
    before = [await rows(lake, table, without=()) for table in ("raw_orders", "raw_activities")]

    again = await lake.write_orders(orders), await lake.write_activities(activities)

    assert all(first)
    assert not any(again)
    assert [await rows(lake, table, without=()) for table in ("raw_orders", "raw_activities")] == before


async def test_a_fill_is_new_only_the_first_time_whoever_tells_it(lake: Lake) -> None:
    fill = told("fill", order_json("entry", at=1, status="filled"), execution="e", at=1, qty="10", price="62.10")

    first = await lake.write_frames([fill, fill])
    second = await lake.write_frames([fill])
    third = await lake.write_activities([activity(fill_json("e", at=1))])

    assert [new.execution_id for new in first.new_fills] == [name("e")]
    assert (second.new_fills, third.new_fills) == ((), ())
    assert await count(lake, "raw_activities") == 1


async def test_rest_completes_the_streams_fill_and_its_first_sight_is_remembered(lake: Lake) -> None:
    event = update_json("fill", order_json("entry", status="filled"), execution="e", qty="10", price="62.10")
    await lake.write_frames([frame(event)])
    [from_stream] = await rows(lake, "raw_activities", without=())
    payload = text(fill_json("e", id=f"20261008120000001::{name('e')}", cum_qty="10", unknown={"deep": [1.50, None]}))

    await lake.write_activities([broker_text.activity(payload)])
    await lake.write_frames([frame(event, connection="second")])

    [row] = await rows(lake, "raw_activities", without=())
    assert from_stream["id"] == f"20261008120000000::{name('e')}"
    assert from_stream["source"] == "stream"
    assert row["id"] == f"20261008120000001::{name('e')}"
    assert (row["source"], row["raw_json"]) == ("rest", payload.decode())
    assert row["ingested_at"] == from_stream["ingested_at"]
    assert row["net_amount"] == Decimal("-621.00")


async def test_raw_payloads_are_kept_byte_for_byte(lake: Lake) -> None:
    payload = (
        b'{ "id" : "%s",\t"client_order_id":"\\u00e9 \\ud83d\\ude00 \xc3\xa9", "status":"new","a":1,"a":2.500,\n'
        % name("odd").encode()
    )
    payload += b'"created_at":"2026-10-08T16:00:00.123456789Z","updated_at":"2026-10-08T16:00:00Z","big":1e400 }'

    await lake.write_orders([broker_text.order(payload)])

    row = await one(lake, "odd")
    assert row["raw_json"].encode() == payload
    assert row["client_order_id"] == "é 😀 é"


async def test_every_frame_is_kept_as_it_came_even_the_unreadable_and_the_repeated(lake: Lake) -> None:
    frames = [told("new", order_json("a"), execution=1), frame(b'{"stream":"trade_upd'), frame(b"\x01\xff")]

    await lake.write_frames([*frames, frames[0]])

    assert [bytes(row["frame"]) for row in await rows(lake, "raw_events")] == [f.raw for f in [*frames, frames[0]]]


# --- newer and older


async def test_an_older_state_never_replaces_a_newer_one(lake: Lake) -> None:
    newer = order_json("a", at=5, status="partially_filled", filled_qty="4")
    await lake.write_orders([order(newer)])

    recorded = await lake.write_orders([order(order_json("a", at=4))])
    recorded += await lake.write_frames([told("new", order_json("a", at=3), execution=1)])

    row = await one(lake, "a")
    assert not recorded
    assert (row["status"], row["filled_qty"], row["raw_json"]) == ("partially_filled", 4, text(newer).decode())


async def test_of_two_states_of_one_moment_the_larger_fill_wins_and_then_rest(lake: Lake) -> None:
    small, large = (order_json("a", status="partially_filled", filled_qty=qty) for qty in ("4", "6"))

    await lake.write_frames([told("partial_fill", large, execution=1, qty="2", price="62.10")])
    await lake.write_orders([order(small)])
    after_rest_with_less = await one(lake, "a")
    await lake.write_orders([order({**large, "hwm": "63"})])
    after_rest_with_the_same = await one(lake, "a")

    assert (after_rest_with_less["filled_qty"], after_rest_with_less["source"]) == (6, "stream")
    assert (after_rest_with_the_same["filled_qty"], after_rest_with_the_same["source"]) == (6, "rest")


@pytest.mark.parametrize("ending", ["filled", "canceled", "expired", "replaced", "rejected"])
async def test_a_finished_order_never_reopens(lake: Lake, ending: str) -> None:
    await lake.write_orders([order(order_json("a", at=1, status=ending))])

    await lake.write_orders([order(order_json("a", at=9, status="new"))])

    assert (await one(lake, "a"))["status"] == ending


async def test_an_unfinished_order_that_is_done_for_the_day_comes_back_to_life(lake: Lake) -> None:
    await lake.write_orders([order(order_json("a", at=1, status="done_for_day"))])

    await lake.write_orders([order(order_json("a", at=2, status="new"))])

    assert (await one(lake, "a"))["status"] == "new"


async def test_a_row_keeps_the_moment_it_was_first_seen_and_gets_a_new_revision_when_it_changes(lake: Lake) -> None:
    await lake.write_orders([order(order_json("a"))])
    before = await one(lake, "a")

    await lake.write_orders([order(order_json("a", at=1, status="canceled"))])

    after = await one(lake, "a")
    assert after["ingested_at"] == before["ingested_at"]
    assert int(after["revision"]) > int(before["revision"])


async def test_a_fill_that_rest_tells_as_the_stream_did_keeps_its_revision(lake: Lake) -> None:
    event = update_json("fill", order_json("entry", status="filled"), execution="e", qty="10", price="62.10")
    await lake.write_frames([frame(event)])
    [by_stream] = await rows(lake, "raw_activities", without=())
    same = fill_json("e", id=by_stream["id"], transaction_time=event["data"]["timestamp"], qty="10", price="62.1")

    await lake.write_activities([activity(same)])
    [by_rest] = await rows(lake, "raw_activities", without=())

    assert (by_stream["source"], by_rest["source"]) == ("stream", "rest")
    assert by_rest["revision"] == by_stream["revision"]


async def test_news_are_changes_and_not_the_second_telling_of_one(lake: Lake) -> None:
    state = order_json("a", at=1)

    by_stream = await lake.write_frames([told("new", state, execution=1)])
    by_rest = await lake.write_orders([order(state)])

    assert [status for status, _ in by_stream.order_news] == ["new"]
    assert by_rest.order_ids == (name("a"),)
    assert by_rest.order_news == ()


async def test_the_payload_with_the_newest_legs_is_kept_when_the_parent_itself_did_not_change(lake: Lake) -> None:
    fresh, stale = (
        order_json("entry", status="filled", legs=[order_json("take", at=at, status=status)])
        for at, status in ((9, "filled"), (1, "new"))
    )
    unnested = order_json("entry", status="filled")

    for payload in (stale, fresh, unnested, stale):
        await lake.write_orders([order(payload)])

    assert (await one(lake, "entry"))["raw_json"] == text(fresh).decode()


async def test_one_batch_may_tell_the_whole_life_of_an_order_in_any_order(lake: Lake) -> None:
    life = [
        told("fill", order_json("a", at=3, status="filled", filled_qty="10"), execution=3, at=3, qty="6", price="62"),
        told("new", order_json("a", at=1), execution=1),
        told(
            "partial_fill",
            order_json("a", at=2, status="partially_filled", filled_qty="4"),
            execution=2, at=2, qty="4", price="62",
        ),
    ]  # fmt: skip

    recorded = await lake.write_frames(life)

    assert (await one(lake, "a"))["status"] == "filled"
    assert {fill.qty for fill in recorded.new_fills} == {Decimal(4), Decimal(6)}


# --- parents and legs


async def test_nesting_ties_legs_to_their_parent_and_lists_them_there(lake: Lake) -> None:
    await lake.write_orders([order(order_json("take", order_class="bracket")), order(order_json("other"))])

    await lake.write_orders([order(bracket())])

    assert await family(lake) == {
        name("entry"): None,
        name("other"): None,
        name("take"): name("entry"),
        name("stop"): name("entry"),
    }
    assert sorted(map(str, (await one(lake, "entry"))["legs"])) == sorted([name("take"), name("stop")])


async def test_a_chain_belongs_to_one_parent_whichever_member_was_nested_and_in_any_order(lake: Lake) -> None:
    for nested, arrival in product(range(3), permutations(range(4))):
        entry, *stops = members = [f"{who} {nested} {arrival}" for who in ("entry", "stop", "stop 2", "stop 3")]
        chain = [
            order_json(stops[0], at=1, status="replaced", replaced_by=name(stops[1])),
            order_json(stops[1], at=2, status="replaced", replaces=name(stops[0]), replaced_by=name(stops[2])),
            order_json(stops[2], at=3, status="held", replaces=name(stops[1])),
        ]
        evidence = [*chain, order_json(entry, legs=[chain[nested]])]

        for place in arrival:
            await lake.write_orders([order(evidence[place])])

        found = await family(lake)
        assert [found[name(who)] for who in members] == [None, *[name(entry)] * 3], (nested, arrival)
        assert len((await one(lake, entry))["legs"]) == 3


async def test_legs_follow_a_replaced_parent_to_its_successor_in_any_order(lake: Lake) -> None:
    for arrival in permutations(range(3)):
        take, entry, heir = (f"{who} {arrival}" for who in ("take", "entry", "entry 2"))
        leg = order_json(take, order_class="bracket", status="held")
        evidence = [
            order_json(entry, order_class="bracket", legs=[leg]),
            order_json(entry, at=1, order_class="bracket", status="replaced", replaced_by=name(heir)),
            order_json(heir, at=1, order_class="bracket", replaces=name(entry), legs=[leg]),
        ]

        for place in arrival:
            await lake.write_orders([order(evidence[place])])

        assert (await family(lake))[name(take)] == name(heir), arrival
        assert (await one(lake, entry))["legs"] == []
        assert (await one(lake, heir))["legs"] == [UUID(name(take))]


async def test_a_refused_replacement_belongs_to_the_parent_and_does_not_take_its_legs(lake: Lake) -> None:
    refused = order_json("entry 2", at=1, status="rejected", replaces=name("entry"))

    await lake.write_orders([order(bracket()), order(refused)])

    assert (await family(lake))[name("take")] == name("entry")
    assert (await family(lake))[name("entry 2")] is None


async def test_a_circle_of_replacements_ends_the_walk_instead_of_running_for_ever(lake: Lake) -> None:
    circle = [
        order_json("a", status="replaced", replaces=name("b"), replaced_by=name("b")),
        order_json("b", status="replaced", replaces=name("a"), replaced_by=name("a")),
    ]

    with anyio.fail_after(5):
        await lake.write_orders([order(row) for row in circle])
        await lake.write_orders([order(order_json("entry", legs=[circle[0]]))])

    assert set((await family(lake)).values()) == {None, name("entry")}


async def test_a_writer_that_cannot_see_the_parent_yet_waits_for_it(lake: Lake) -> None:
    """The nesting comes in one transaction, the replacement in another that began before the first ended."""
    nesting = harvest_order(order(order_json("entry", legs=[order_json("stop", status="held")])), "rest")
    moved = order(order_json("moved", at=1, replaces=name("stop")))
    written = anyio.Event()

    async def replace() -> None:
        await lake.write_orders([moved])
        written.set()

    async with anyio.create_task_group() as tasks, lake.db.transaction() as conn:
        await store.take_turn(conn, SLUG)
        await store.record(conn, SLUG, nesting, await store.look_up(conn, SLUG, nesting))
        tasks.start_soon(replace)
        for _ in range(500):
            if written.is_set() or await somebody_waits(conn):
                break
            await anyio.sleep(0.01)

    assert (await family(lake))[name("moved")] == name("entry")


async def somebody_waits(conn: psycopg.AsyncConnection) -> bool:
    result = await conn.execute("select exists (select from pg_locks where not granted)")
    return await result.fetchone() == (True,)


async def test_writers_of_the_same_rows_in_opposite_order_never_block_each_other_for_good(lake: Lake) -> None:
    first = [order(order_json(number, at=1)) for number in range(200)]
    second = [order(order_json(number, at=2)) for number in reversed(range(200))]

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(lake.write_orders, first)
                tasks.start_soon(lake.write_orders, second)

    assert {row["updated_at"] for row in await rows(lake, "raw_orders")} == {NOON + timedelta(seconds=2)}


async def test_an_old_telling_of_an_order_that_comes_after_its_replacement_is_tied_to_the_parent(lake: Lake) -> None:
    """The old telling does not know yet what replaced it: only the replacement, which is here, can tell."""
    moved = order_json("moved", at=2, status="held", replaces=name("stop"))
    await lake.write_orders([order(order_json("entry", at=2, legs=[moved]))])

    await lake.write_orders([order(order_json("stop", at=1, status="held"))])

    assert (await family(lake))[name("stop")] == name("entry")
    assert (await one(lake, "entry"))["legs"] == sorted([UUID(name("moved")), UUID(name("stop"))])


# --- activities that are no fills


async def test_a_correction_and_a_cancellation_replace_what_was_executed_and_nothing_comes_back(lake: Lake) -> None:
    executed, corrected, canceled = (
        cash_json("dividend", status=status, net_amount=amount)
        for status, amount in (("executed", "1.02"), ("correct", "1.10"), ("canceled", "1.10"))
    )
    seen = []

    for message in (executed, corrected, executed, canceled, corrected, executed):
        await lake.write_activities([activity(message)])
        [row] = await rows(lake, "raw_activities")
        seen.append((row["status"], row["net_amount"]))

    correct, void = ("correct", Decimal("1.10")), ("canceled", Decimal("1.10"))
    assert seen == [("executed", Decimal("1.02")), correct, correct, void, void, void]


async def test_what_was_canceled_is_no_cash(lake: Lake) -> None:
    await lake.write_activities([activity(cash_json(1)), activity(cash_json(2, status="canceled"))])

    async with lake.db.transaction() as conn:
        assert await completeness.cash(conn, SLUG) == Decimal("1.02")


# --- what contradicts, what cannot be read, what cannot be held


async def test_an_activity_that_comes_again_with_other_content_goes_to_quarantine_and_the_first_counts(
    lake: Lake,
) -> None:
    other = fill_json("e", qty="987654")
    await lake.write_activities([activity(fill_json("e"))])

    recorded = await lake.write_activities([activity(other)]) + await lake.write_activities([activity(other)])

    [row], [kept] = await rows(lake, "raw_activities"), await rows(lake, "quarantine")
    assert row["qty"] == 10
    assert not recorded
    assert bytes(kept["raw"]) == text(other)
    assert "other content" in kept["reason"]


@pytest.mark.parametrize("apart", [False, True], ids=["in one batch", "in two batches"])
async def test_an_event_that_comes_again_with_other_content_changes_neither_its_order_nor_its_fill(
    lake: Lake, apart: bool
) -> None:
    true = order_json("a", at=1, status="filled", filled_qty="10")
    false = {**true, "filled_qty": "987654"}
    first, second = (
        told("fill", state, execution="e", at=1, qty=qty, price="62.10")
        for state, qty in ((true, "10"), (false, "987654"))
    )

    for batch in [[first], [second]] if apart else [[first, second]]:
        await lake.write_frames(batch)

    [kept] = await rows(lake, "quarantine")
    assert bytes(kept["raw"]) == second.raw
    assert (await one(lake, "a"))["filled_qty"] == 10
    assert [row["qty"] for row in await rows(lake, "raw_activities")] == [10]
    assert await count(lake, "raw_events") == 2


async def test_an_unreadable_message_is_kept_once_however_often_it_comes(lake: Lake) -> None:
    cut = frame(text(update_json("new", order_json("a")))[:-9])
    row = Malformed(b'{"id": 7}', "no status")

    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await lake.write_frames([cut, told("new", order_json("b"), execution="b")])
            await lake.write_orders([], [row])

    assert [bytes(kept["raw"]) for kept in await rows(lake, "quarantine")] == [cut.raw, row.raw]
    assert len([entry for entry in logs if entry["event"] == "lake.quarantined"]) == 2
    assert await count(lake, "raw_orders") == 1


@pytest.mark.parametrize(
    "poison",
    [
        {"client_order_id": "a\u0000b"},
        {"qty": "1e200000"},
        {"id": "not-a-uuid"},
        {"replaced_by": "nor this"},
    ],
    ids=["NUL", "a number without end", "an id that is none", "a link that is none"],
)
async def test_a_row_that_postgresql_cannot_hold_does_not_lose_the_others_of_its_batch(
    lake: Lake, poison: Json
) -> None:
    def poisoned(who: str) -> Json:
        return {**order_json(who), **poison}

    good, bad = order(order_json("good")), order(poisoned("bad"))
    there = Cursor(NOON, None, NOON)

    await lake.write_orders([good, bad], cursor=there)
    event = told("new", poisoned("worse"), execution=1)
    await lake.write_frames([event, told("new", order_json("fine"), execution=2)])

    assert {row["client_order_id"] for row in await rows(lake, "raw_orders")} == {"client good", "client fine"}
    assert {bytes(row["raw"]) for row in await rows(lake, "quarantine")} == {bad.raw, event.raw}
    assert await count(lake, "raw_events") == 2
    async with lake.db.transaction() as conn:
        assert await completeness.cursor(conn, SLUG, "orders") == there


@pytest.mark.parametrize("length", [2, COPIED_FROM], ids=["upserted", "copied"])
async def test_activities_that_postgresql_cannot_hold_do_not_lose_their_page(lake: Lake, length: int) -> None:
    endless = Random(7).randbytes(3000).hex()  # no index takes such an id
    bad = [activity(cash_json("bad", net_amount="1e200000")), activity(cash_json("bad", id=endless))]
    good = [activity(cash_json(number)) for number in range(length)]

    await lake.write_activities([*good, *bad, activity(fill_json("e"))])

    assert [row["activity_type"] for row in await rows(lake, "raw_activities")].count("DIV") == length
    assert await count(lake, "raw_activities") == length + 1
    assert [bytes(row["raw"]) for row in await rows(lake, "quarantine")] == [each.raw for each in bad]


async def test_a_fill_without_what_makes_it_one_is_put_aside(lake: Lake) -> None:
    nameless = told("fill", order_json("a", status="filled"), qty="10", price="62.10")

    await lake.write_frames([nameless])

    assert [bytes(row["raw"]) for row in await rows(lake, "quarantine")] == [nameless.raw]


async def test_words_nobody_knows_yet_are_stored_as_they_are(lake: Lake) -> None:
    await lake.write_frames([told("teleported", order_json("a", status="levitating"), execution=1)])
    await lake.write_activities([activity(cash_json("x", activity_type="NEWTYPE", status="pondered"))])

    assert (await one(lake, "a"))["status"] == "levitating"
    assert [row["activity_type"] for row in await rows(lake, "raw_activities")] == ["NEWTYPE"]


# --- transactions


async def test_a_page_and_its_cursor_are_one(lake: Lake) -> None:
    async with lake.db.transaction() as conn:
        await conn.execute("alter table account_activities.cursors add constraint never check (token <> 'poison')")
        await completeness.move_cursor(conn, SLUG, "orders", Cursor(NOON))

    with pytest.raises(psycopg.errors.CheckViolation):
        await lake.write_orders([order(order_json("a"))], cursor=Cursor(NOON + timedelta(days=1), "poison"))

    async with lake.db.transaction() as conn:
        assert await completeness.cursor(conn, SLUG, "orders") == Cursor(NOON)


async def test_a_page_that_is_written_in_parts_moves_its_cursor_only_when_all_of_them_are_there(lake: Lake) -> None:
    page = [order(order_json(number)) for number in range(2 * ITEMS_AT_ONCE + 1)]
    async with lake.db.transaction() as conn:
        await conn.execute(
            "create function fill_disk() returns trigger language plpgsql as"
            " $$ begin raise exception using errcode = '53100'; end $$"
        )
        await conn.execute(
            f"create trigger disk_full before insert on account_activities.raw_orders_{SLUG} for each row"
            f" when (new.client_order_id = 'client {2 * ITEMS_AT_ONCE}') execute function fill_disk()".encode()
        )

    with pytest.raises(StorageFull):
        await lake.write_orders(page, cursor=Cursor(NOON))

    async with lake.db.transaction() as conn:
        assert await completeness.cursor(conn, SLUG, "orders") is None
        await conn.execute(f"drop trigger disk_full on account_activities.raw_orders_{SLUG}".encode())
    await lake.write_orders(page, cursor=Cursor(NOON))
    async with lake.db.transaction() as conn:
        assert await completeness.cursor(conn, SLUG, "orders") == Cursor(NOON)
    assert await count(lake, "raw_orders") == len(page)


async def test_a_cursor_only_moves_forward(lake: Lake) -> None:
    later = NOON + timedelta(hours=1)
    async with lake.db.transaction() as conn:
        assert await completeness.cursor(conn, SLUG, "orders") is None
        await completeness.move_cursor(conn, SLUG, "orders", Cursor(later, "t", later))

        await completeness.move_cursor(conn, SLUG, "orders", Cursor(NOON, None, None))

        assert await completeness.cursor(conn, SLUG, "orders") == Cursor(later, None, later)
        assert await completeness.cursor(conn, SLUG, "activities") is None


async def test_accounts_do_not_see_each_other(lake: Lake, database_url: str) -> None:
    async with open_lake(database_url, slug="other") as other:
        await lake.write_orders([order(order_json("a"))])
        await other.write_orders([order(order_json("a", at=1, status="canceled"))])

        assert [row["status"] for row in await rows(lake, "raw_orders")] == ["new"]
        assert [row["status"] for row in await rows(other, "raw_orders")] == ["canceled"]


async def test_readers_hear_of_a_change_after_it_is_there(lake: Lake) -> None:
    async with lake.db.listener() as listener, listener.subscribe(f"raw_channel_{SLUG}") as notes:
        await anext(notes)  # the call to read everything once

        await lake.write_orders([order(order_json("a"))])
        with anyio.fail_after(5):
            note = await anext(notes)
        await lake.write_orders([order(order_json(number)) for number in range(400)])
        with anyio.fail_after(5):
            crowd = await anext(notes)

    assert note.payload == f'{{"orders":["{name("a")}"],"activities":[]}}'
    assert crowd.payload == '{"op":"resync"}'


# --- gaps


async def test_one_blindness_is_one_gap_until_it_is_healed(lake: Lake) -> None:
    later = NOON + timedelta(seconds=40)
    async with lake.db.transaction() as conn:
        first = await completeness.open_gap(conn, SLUG, NOON, "closed")
        same = await completeness.open_gap(conn, SLUG, later, "mute")
        await completeness.credit_gap(conn, SLUG, first, 3, 1)
        await completeness.credit_gap(conn, SLUG, first, 1, 1)

        healed = await completeness.heal_gap(conn, SLUG, first, blind_to=later, healed_at=later)
        still_open = await completeness.open_gaps(conn, SLUG)
        second = await completeness.open_gap(conn, SLUG, later, "mute")

    assert healed is not None
    assert (healed.blind_from, healed.blind_to, healed.reason) == (NOON, later, "closed")
    assert (healed.orders_recovered, healed.fills_recovered) == (4, 2)
    assert same == first
    assert still_open == []
    assert second != first


async def test_a_written_frame_is_a_sign_that_the_stream_lives(database_url: str) -> None:
    async with open_lake(database_url, clock=VirtualClock(NOON)) as lake:
        await lake.write_frames([told("new", order_json("a"), execution=1)])

        async with lake.db.transaction() as conn:
            assert await completeness.stream_alive_at(conn, SLUG) == NOON


# --- what is still to be asked


async def test_orders_behind_their_fills_and_missing_links_are_named(lake: Lake) -> None:
    recorded = await lake.write_activities(
        [activity(fill_json("e", order="unknown")), activity(fill_json("f", order="late"))]
    )
    orders = await lake.write_orders(
        [
            order(order_json("late", filled_qty="3")),
            order(order_json("heir", replaces=name("lost"), replaced_by=name("next"))),
        ]
    )

    async with lake.db.transaction() as conn:
        behind = await completeness.orders_behind_their_fills(conn, SLUG, recorded.activity_ids)
        pointed_at = await completeness.unsettled_links(conn, SLUG, orders.order_ids)
        everything = await completeness.orders_behind_their_fills(conn, SLUG)

    assert set(behind) == set(everything) == {UUID(name("unknown")), UUID(name("late"))}
    assert set(pointed_at) == {UUID(name("lost")), UUID(name("next"))}
