"""The stocks that trade here: owns the list of assets and their rows; knows no prices over time."""

from __future__ import annotations

import uuid
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Asset:
    """One stock.

    start_price: currency per share in the middle of its long path. liveliness: unitless, 1 moves like the
    market, 2 twice as much. dividend: currency per share and quarter, 0 for none.
    """

    symbol: str
    name: str
    exchange: str
    start_price: float
    liveliness: float
    dividend: str = "0"

    @property
    def id(self) -> str:
        """Return the asset's UUID; the same in every simulator."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"asset:{self.symbol}"))

    @property
    def cusip(self) -> str:
        """Return nine characters shaped like a CUSIP."""
        return uuid.uuid5(uuid.NAMESPACE_URL, f"cusip:{self.symbol}").hex[:9].upper()

    def row(self) -> dict[str, object]:
        """Return Alpaca's asset JSON."""
        return {
            "id": self.id,
            "class": "us_equity",
            "exchange": self.exchange,
            "symbol": self.symbol,
            "name": self.name,
            "status": "active",
            "tradable": True,
            "marginable": True,
            "shortable": True,
            "easy_to_borrow": True,
            "fractionable": True,
            "maintenance_margin_requirement": 30,
            "margin_requirement_long": "30",
            "margin_requirement_short": "30",
            "attributes": [],
        }


def _nasdaq(symbol: str, name: str, price: float, liveliness: float, dividend: str = "0") -> Asset:
    return Asset(symbol, name, "NASDAQ", price, liveliness, dividend)


def _nyse(symbol: str, name: str, price: float, liveliness: float, dividend: str = "0") -> Asset:
    return Asset(symbol, name, "NYSE", price, liveliness, dividend)


ASSETS: tuple[Asset, ...] = (
    _nasdaq("AAPL", "Apple Inc. Common Stock", 187.4, 0.9, "0.26"),
    _nasdaq("ADBE", "Adobe Inc. Common Stock", 468.2, 1.1),
    _nasdaq("AMD", "Advanced Micro Devices, Inc. Common Stock", 142.6, 1.7),
    _nasdaq("AMGN", "Amgen Inc. Common Stock", 291.3, 0.8, "2.38"),
    _nasdaq("AMZN", "Amazon.com, Inc. Common Stock", 182.9, 1.1),
    _nasdaq("AVGO", "Broadcom Inc. Common Stock", 171.8, 1.5, "0.59"),
    _nyse("BA", "The Boeing Company", 177.5, 1.4),
    _nyse("BAC", "Bank of America Corporation", 42.7, 1.0, "0.26"),
    _nyse("C", "Citigroup Inc.", 68.4, 1.1, "0.56"),
    _nyse("CAT", "Caterpillar Inc.", 352.6, 1.0, "1.41"),
    _nasdaq("COST", "Costco Wholesale Corporation Common Stock", 905.7, 0.7, "1.16"),
    _nasdaq("CSCO", "Cisco Systems, Inc. Common Stock", 55.6, 0.8, "0.41"),
    _nyse("CVX", "Chevron Corporation", 153.9, 0.9, "1.71"),
    _nyse("DAL", "Delta Air Lines, Inc.", 51.2, 1.5, "0.15"),
    _nyse("DIS", "The Walt Disney Company", 101.4, 1.1, "0.5"),
    _nyse("F", "Ford Motor Company", 11.36, 1.3, "0.15"),
    _nyse("GE", "GE Aerospace", 186.3, 1.2, "0.36"),
    _nyse("GM", "General Motors Company", 50.9, 1.3, "0.15"),
    _nasdaq("GOOG", "Alphabet Inc. Class C Capital Stock", 172.6, 1.0, "0.2"),
    _nyse("GS", "The Goldman Sachs Group, Inc.", 514.8, 1.1, "3"),
    _nyse("HD", "The Home Depot, Inc.", 389.5, 0.8, "2.25"),
    _nyse("IBM", "International Business Machines Corporation", 219.7, 0.8, "1.67"),
    _nasdaq("INTC", "Intel Corporation Common Stock", 23.84, 1.7),
    _nyse("JNJ", "Johnson & Johnson", 158.2, 0.5, "1.24"),
    _nyse("JPM", "JPMorgan Chase & Co.", 226.4, 0.9, "1.25"),
    _nyse("KO", "The Coca-Cola Company", 66.1, 0.5, "0.49"),
    _nasdaq("LULU", "lululemon athletica inc. Common Stock", 297.8, 1.6),
    _nasdaq("META", "Meta Platforms, Inc. Class A Common Stock", 561.9, 1.2, "0.5"),
    _nasdaq("MRNA", "Moderna, Inc. Common Stock", 54.3, 2.1),
    _nasdaq("MSFT", "Microsoft Corporation Common Stock", 421.6, 0.8, "0.83"),
    _nasdaq("MU", "Micron Technology, Inc. Common Stock", 103.4, 1.7, "0.12"),
    _nasdaq("NFLX", "Netflix, Inc. Common Stock", 731.5, 1.2),
    _nyse("NKE", "NIKE, Inc.", 78.6, 1.2, "0.4"),
    _nasdaq("NVDA", "NVIDIA Corporation Common Stock", 128.3, 1.7, "0.01"),
    _nyse("ORCL", "Oracle Corporation", 172.1, 1.1, "0.4"),
    _nyse("PFE", "Pfizer Inc.", 28.47, 0.9, "0.42"),
    _nasdaq("PYPL", "PayPal Holdings, Inc. Common Stock", 79.2, 1.5),
    _nasdaq("QCOM", "QUALCOMM Incorporated Common Stock", 168.9, 1.4, "0.85"),
    _nasdaq("SBUX", "Starbucks Corporation Common Stock", 96.8, 1.0, "0.61"),
    _nasdaq("SIRI", "Sirius XM Holdings Inc. Common Stock", 25.17, 1.6, "0.27"),
    _nyse("SNAP", "Snap Inc.", 10.62, 2.2),
    _nyse("T", "AT&T Inc.", 21.83, 0.6, "0.28"),
    _nasdaq("TSLA", "Tesla, Inc. Common Stock", 248.6, 2.0),
    _nyse("UBER", "Uber Technologies, Inc.", 74.9, 1.5),
    _nyse("V", "Visa Inc.", 283.7, 0.7, "0.59"),
    _nyse("WMT", "Walmart Inc.", 80.4, 0.6, "0.21"),
    _nyse("XOM", "Exxon Mobil Corporation", 119.6, 0.9, "0.99"),
    _nasdaq("SPY", "SPDR S&P 500 ETF Trust", 574.3, 0.5, "1.75"),
)
