"""Money that moves without a trade: owns fees, dividends and interest of a day; never an order."""

from __future__ import annotations

from datetime import date
from decimal import ROUND_UP, Decimal

from .activities import Activity, cash_id
from .assets import Asset
from .blotter import Blotter
from .digits import CENT, ZERO, cents, plain
from .market import Market
from .stamps import SECOND

REG_RATE = Decimal("0.0000278")  # of the proceeds of sales
TAF_PER_SHARE, TAF_MAX = Decimal("0.000166"), Decimal("8.30")
MARGIN_RATE, CREDIT_RATE = Decimal("0.0725") / 12, Decimal("0.02") / 12
QUARTER_DAYS = 91


def book_cash(
    blotter: Blotter,
    kind: str,
    day: date,
    amount: Decimal,
    at: int,
    *,
    sub_type: str | None = None,
    description: str = "",
    asset: Asset | None = None,
    qty: Decimal | None = None,
    price: Decimal | None = None,
    per_share: Decimal | None = None,
) -> Activity:
    """Book one movement of `amount` (signed currency) that counts on `day`, at the moment `at`; return it."""
    activity = Activity(
        id=cash_id(day, blotter.ids.uuid()),
        type=kind,
        at=at // 1000 * 1000,
        visible=at + int(blotter.quirks.late_activity_s * SECOND),
        net_amount=amount,
        symbol=None if asset is None else asset.symbol,
        cusip=None if asset is None else asset.cusip,
        qty=qty,
        price=price,
        day=day,
        sub_type=sub_type,
        description=description,
        per_share_amount=per_share,
        group_id=blotter.ids.uuid(),
    )
    blotter.ledger.add(activity, now=at)
    return activity


def settle_day(blotter: Blotter, market: Market, day: date, previous: date, at: int) -> None:
    """Book what a session day leaves behind: fees on its sales, dividends, and interest at a month's turn.

    previous: the session day before; at: the moment of booking, after the close.
    """
    _book_fees(blotter, day, at)
    _book_dividends(blotter, market, day, previous, at)
    if day.month != previous.month:
        _book_interest(blotter, day, at)


def _book_fees(blotter: Blotter, day: date, at: int) -> None:
    proceeds, shares = blotter.ledger.take_sales(day)
    if not shares:
        return
    reg = (proceeds * REG_RATE).quantize(CENT, ROUND_UP)
    taf = min(shares * TAF_PER_SHARE, TAF_MAX).quantize(CENT, ROUND_UP)
    about = f"fee for proceed of {plain(proceeds)} on {day}"
    book_cash(blotter, "FEE", day, -reg, at, sub_type="REG", description=f"REG {about}")
    about = f"fee for {plain(shares)} shares sold on {day}"
    book_cash(blotter, "FEE", day, -taf, at, sub_type="TAF", description=f"TAF {about}")


def _book_dividends(blotter: Blotter, market: Market, day: date, previous: date, at: int) -> None:
    for symbol, held in sorted(blotter.ledger.positions.items()):
        asset = market.assets[symbol]
        per_share = Decimal(asset.dividend)
        amount = cents(held.qty * per_share)
        if amount and _quarter(asset, day) != _quarter(asset, previous):
            book_cash(
                blotter, "DIV", day, amount, at, sub_type="CDIV",
                description=f"Cash dividend @ {plain(per_share)}", asset=asset, qty=held.qty, per_share=per_share,
            )  # fmt: skip


def _book_interest(blotter: Blotter, day: date, at: int) -> None:
    cash = blotter.ledger.cash
    rate, sub_type = (CREDIT_RATE, "CDT") if cash > ZERO else (MARGIN_RATE, "MGN")
    amount = cents(cash * rate)
    if amount:
        book_cash(blotter, "INT", day, amount, at, sub_type=sub_type, description=f"Interest {day:%B %Y}")


def _quarter(asset: Asset, day: date) -> int:
    return (day.toordinal() + sum(asset.symbol.encode()) * 7) // QUARTER_DAYS
