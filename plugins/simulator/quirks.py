"""The broker's misbehaviours as switches; owns no behaviour itself, the engine reads them as it goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LegLayout = Literal["old", "new", "both"]


@dataclass(slots=True)
class BrokerQuirks:
    """What real users saw Alpaca do; all off by default, changeable while the simulator runs.

    lose_sibling_cancel: the cancel of a bracket's other exit is true in REST, but its event is never sent.
    take_profit_replaced_on_stop_fill: the resting take-profit ends `replaced` instead of `canceled`.
    out_of_order_partials: the last slice's event comes first, and the slice before it is stamped 5 ms later.
    same_ms_partials: an order fills in several slices within one millisecond.
    late_activity_s: seconds until a new activity appears in REST.
    replace_then_reject: PATCH answers 200, then the replacement is rejected and the old order keeps working.
    replace_error_though_done: PATCH answers 500, yet the order was replaced.
    pending_cancel_stuck: a cancel is taken and never completed.
    pending_replace_stuck: a replace is taken and never completed.
    held_not_replaceable: PATCH refuses an order that is `held`; no document promises that it is taken.
    replaced_leg_layout: which legs a parent lists after a leg was replaced.
    stop_id_changes_on_trigger: an elected stop leg is `replaced` by another id, which then fills.
    """

    lose_sibling_cancel: bool = False
    take_profit_replaced_on_stop_fill: bool = False
    out_of_order_partials: bool = False
    same_ms_partials: bool = False
    late_activity_s: float = 0.0
    replace_then_reject: bool = False
    replace_error_though_done: bool = False
    pending_cancel_stuck: bool = False
    pending_replace_stuck: bool = False
    held_not_replaceable: bool = False
    replaced_leg_layout: LegLayout = "new"
    stop_id_changes_on_trigger: bool = False
