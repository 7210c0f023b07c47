"""Returns, drawdown and Sharpe: worked by hand, and as an established library has them."""

from __future__ import annotations

import empyrical
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from coldharbour.metrics.performance import (
    RATIOS,
    WINDOWS,
    cumulative_returns,
    drawdowns,
    ratios,
    sharpe,
    smart_sharpe,
)

ANNUAL = 15.874507866387544  # sqrt(252)
returns_of = st.floats(-0.2, 0.2).map(lambda value: round(value, 6))


class TestSharpe:
    def test_it_is_the_mean_over_the_deviation_of_a_year(self) -> None:
        # mean 0.02, deviation sqrt((0.01**2 + 0 + 0.01**2)/2) = 0.01
        assert sharpe([0.01, 0.02, 0.03]) == pytest.approx(2 * ANNUAL)

    def test_the_riskless_return_of_a_day_is_taken_off(self) -> None:
        assert sharpe([0.01, 0.02, 0.03], rf=0.005) == pytest.approx(1.5 * ANNUAL)

    def test_only_the_newest_returns_of_the_window_count(self) -> None:
        assert sharpe([-0.5, 0.7, 0.01, 0.02, 0.03], window=3) == pytest.approx(2 * ANNUAL)

    def test_there_is_none_before_the_window_is_full(self) -> None:
        assert sharpe([0.01, 0.02, 0.03], window=4) is None
        assert sharpe([0.01]) is None
        assert sharpe([]) is None

    @pytest.mark.parametrize("value", [0.0, 0.1, 0.001])
    def test_there_is_none_without_deviation_although_floats_round(self, value: float) -> None:
        assert sharpe([value] * 21) is None
        assert smart_sharpe([value] * 21) is None

    @given(st.lists(returns_of, min_size=10, max_size=60), st.sampled_from([0.0, 0.0001]))
    def test_it_agrees_with_empyrical(self, returns: list[float], rf: float) -> None:
        assume(np.std(returns) > 1e-6)

        assert (
            sharpe(returns, rf, 10)
            == pytest.approx(empyrical.sharpe_ratio(np.array(returns[-10:]), risk_free=rf), rel=1e-6, abs=1e-9)
            or len(set(returns[-10:])) == 1
        )


class TestSmartSharpe:
    def test_the_deviation_grows_with_the_correlation_of_neighbours(self) -> None:
        # (0.03, 0.02) against (0.01, 0.03) correlate by -1: the deviation is sqrt(3) times as large
        assert smart_sharpe([0.01, 0.03, 0.02]) == pytest.approx(2 * ANNUAL / 3**0.5)

    def test_a_partial_correlation_is_weighed_as_it_is(self) -> None:
        # (2, 3, 5) against (1, 2, 3) correlate by 3/sqrt(14/3*2) = 0.98198; mean 2.75, deviation 1.707825
        expected = 2.75 / 1.707825128 * ANNUAL / (1 + 2 * 0.981980506) ** 0.5
        assert smart_sharpe([0.01, 0.02, 0.03, 0.05]) == pytest.approx(expected)

    def test_there_is_none_where_the_correlation_is_undefined(self) -> None:
        assert smart_sharpe([0.0, 0.0, 0.0, 0.01]) is None
        assert sharpe([0.0, 0.0, 0.0, 0.01]) == pytest.approx(ANNUAL / 2)

    @given(st.lists(returns_of, min_size=4, max_size=40))
    def test_it_is_never_further_from_zero_than_the_plain_one(self, returns: list[float]) -> None:
        plain, smart = sharpe(returns), smart_sharpe(returns)

        assert smart is None or (plain is not None and abs(smart) <= abs(plain))


class TestDrawdown:
    def test_it_is_measured_from_the_peak_and_from_the_start(self) -> None:
        assert drawdowns([-0.5, 1.0, 0.5, -0.5]) == [-0.5, 0.0, 0.0, -0.5]
        assert cumulative_returns([-0.5, 1.0, 0.5, -0.5]) == [-0.5, 0.0, 0.5, -0.25]

    @given(st.lists(returns_of, min_size=1, max_size=60))
    def test_the_deepest_agrees_with_empyrical(self, returns: list[float]) -> None:
        assert min(drawdowns(returns)) == pytest.approx(empyrical.max_drawdown(np.array(returns)), abs=1e-9)

    @given(st.lists(returns_of, min_size=1, max_size=60))
    def test_the_growth_agrees_with_empyrical(self, returns: list[float]) -> None:
        assert cumulative_returns(returns)[-1] == pytest.approx(
            empyrical.cum_returns_final(np.array(returns)), abs=1e-9
        )


def test_every_window_has_both_ratios_under_the_names_of_the_tables() -> None:
    returns = [0.01 * (number % 7 - 3) for number in range(63)]

    found = ratios(returns)

    assert tuple(found) == RATIOS
    assert {name: found[name] is not None for name in RATIOS} == {
        f"{kind}_{window}": window <= 63 for kind in ("sharpe", "smart_sharpe") for window in WINDOWS
    }
    assert found["sharpe_21"] == sharpe(returns, 0.0, 21)
    assert found["smart_sharpe_21"] == smart_sharpe(returns, 0.0, 21)
