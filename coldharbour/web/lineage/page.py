"""The route /{slug}/trades/{parent_id}: one trade from its entry to now; reads, and nothing else."""

from __future__ import annotations

from uuid import UUID

from litestar import MediaType, get
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from coldharbour.risk import store as risk_store
from coldharbour.web.api.parameters import check_text
from coldharbour.web.api.routes import account_of, one_moment
from coldharbour.web.board import Board
from coldharbour.web.lineage import store
from coldharbour.web.lineage.timeline import timeline

DECISIONS = 200


@get("/{slug:str}/trades/{parent_id:str}", include_in_schema=False, media_type=MediaType.HTML)
async def trade(state: State, slug: FromPath[str], parent_id: FromPath[str]) -> str:
    """Return the page of a trade: its orders with every replacement, fills, decisions and results, oldest first."""
    account = account_of(slug, state)
    check_text("the trade's id", parent_id)
    async with one_moment(state) as conn:
        lot = await store.lot(conn, slug, parent_id)
        closings = await store.closings(conn, slug, parent_id)
        decisions = await risk_store.audit_page(conn, slug, None, DECISIONS, parent_id)
        parent = _uuid(parent_id)
        others = [order for row in closings if (order := _uuid(row.exit_order_id))]
        orders = await store.orders(conn, slug, parent, others) if parent else []
        fills = await store.fills(conn, slug, [order.id for order in orders])
    if not (lot or closings or orders):
        raise NotFoundException("no such trade is on record")
    board: Board = state.board
    return board.fragments.trade(
        account=account,
        parent_id=parent_id,
        symbol=next((row.symbol for row in (lot, *closings, *orders) if row and row.symbol), ""),
        lot=lot,
        result=sum(row.pnl_cash for row in closings) if closings else None,
        moments=timeline(parent_id, orders, fills, decisions, closings),
    )


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
