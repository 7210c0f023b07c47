"""Returns and what is read from a series of them: growth, drawdown, Sharpe; knows no account and no calendar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from math import fsum, sqrt
from typing import Final

WINDOWS: Final = (10, 21, 63, 126, 252)  # sessions
SESSIONS_PER_YEAR: Final = 252
RATIOS: Final = (*(f"sharpe_{window}" for window in WINDOWS), *(f"smart_sharpe_{window}" for window in WINDOWS))


def daily_return(deposit: Decimal, previous: Decimal, flows: Decimal) -> float:
    """Return the day's profit as a fraction of what was there to earn it, 0 where that was not positive.

    deposit: the account at the close. previous: at the close before. flows: deposited between the two, which counts
    as there from the beginning. Source: domain.md 7.

    >>> daily_return(Decimal("1210"), Decimal("1000"), Decimal("100"))
    0.1
    """
    base = previous + flows
    return float((deposit - base) / base) if base > 0 else 0.0


def cumulative_returns(returns: Sequence[float]) -> list[float]:
    """Return prod(1 + r) - 1 up to each return, as fractions. Source: domain.md 7.

    >>> cumulative_returns([0.0, 0.5, -0.5])
    [0.0, 0.5, -0.25]
    """
    return [growth - 1 for growth in _growths(returns)]


def drawdowns(returns: Sequence[float]) -> list[float]:
    """Return how far growth stands below its greatest value so far, after each return: 0 or a negative fraction.

    The greatest value is at least the capital at the start. Deposits and withdrawals do not appear in returns, so
    they are never a gain or a loss here. Source: domain.md 7.

    >>> drawdowns([0.0, 0.25, -0.5, 0.5])
    [0.0, 0.0, -0.5, -0.25]
    """
    peak, found = 1.0, []
    for growth in _growths(returns):
        peak = max(peak, growth)
        found.append(growth / peak - 1)
    return found


def sharpe(returns: Sequence[float], rf: float = 0.0, window: int | None = None) -> float | None:
    """Return the annual Sharpe ratio: mean(r - rf)/std(r, ddof=1)*sqrt(252), over the newest `window` returns.

    returns: daily, as fractions, oldest first. rf: the riskless return of one day, a fraction. window: how many;
    None takes all. None before there are so many returns, or two, and when they do not vary. Source: domain.md 7.

    >>> round(sharpe([0.01, 0.03]), 6), sharpe([0.01, 0.01]), sharpe([0.01], window=2)
    (22.449944, None, None)
    """
    chosen = _newest(returns, window)
    spread = None if chosen is None else _deviation(chosen)
    if chosen is None or spread is None:
        return None
    return (_mean(chosen) - rf) / spread * sqrt(SESSIONS_PER_YEAR)


def smart_sharpe(returns: Sequence[float], rf: float = 0.0, window: int | None = None) -> float | None:
    """Return the Sharpe ratio with its deviation multiplied by sqrt(1 + 2*|rho1|): returns that follow one another
    make risk look smaller than it is.

    rho1: the Pearson correlation of r[1:] with r[:-1]. None as well where rho1 is undefined, since one of the two
    does not vary. quantstats' "smart Sharpe" takes the same rho1 but punishes all longer lags too, as its powers:
    it divides by sqrt(1 + 2*sum((n-k)/n*|rho1|**k for k in 1..n-1)). The two agree while rho1 is small (1.095 and
    1.105 for 252 returns and |rho1| = 0.1) and part when it is not (1.41 and 1.73 at 0.5, 1.67 and 4.28 at 0.9).
    Source: domain.md 7.
    """
    chosen = _newest(returns, window)
    plain = sharpe(returns, rf, window)
    rho = None if chosen is None or plain is None else _correlation(chosen[1:], chosen[:-1])
    return None if plain is None or rho is None else plain / sqrt(1 + 2 * abs(rho))


def ratios(returns: Sequence[float], rf: float = 0.0) -> dict[str, float | None]:
    """Return sharpe_W and smart_sharpe_W for every window of `WINDOWS`, by name. Source: domain.md 7."""
    found = [sharpe(returns, rf, window) for window in WINDOWS]
    found += [smart_sharpe(returns, rf, window) for window in WINDOWS]
    return dict(zip(RATIOS, found, strict=True))


def _growths(returns: Sequence[float]) -> Iterator[float]:
    growth = 1.0
    for value in returns:
        growth *= 1 + value
        yield growth


def _newest(returns: Sequence[float], window: int | None) -> Sequence[float] | None:
    count = len(returns) if window is None else window
    if count > len(returns) or count < 2:
        return None
    return returns[len(returns) - count :]


def _mean(values: Sequence[float]) -> float:
    return fsum(values) / len(values)


def _deviation(values: Sequence[float]) -> float | None:
    """Return the sample's standard deviation, None if all values are equal: rounding must not make a ratio of that."""
    if min(values) == max(values):
        return None
    mean = _mean(values)
    return sqrt(fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _correlation(left: Sequence[float], right: Sequence[float]) -> float | None:
    if len(left) < 2 or min(left) == max(left) or min(right) == max(right):
        return None
    left_mean, right_mean = _mean(left), _mean(right)
    together = fsum((a - left_mean) * (b - right_mean) for a, b in zip(left, right, strict=True))
    alone = fsum((a - left_mean) ** 2 for a in left) * fsum((b - right_mean) ** 2 for b in right)
    return together / sqrt(alone)
