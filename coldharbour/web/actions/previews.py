"""What an action would do, in words, before anybody confirms it; pure, no I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from coldharbour.hookspecs import WorkerSpec
from coldharbour.live.model import Side
from coldharbour.requests import Action
from coldharbour.risk.breakeven import NoLegalStop, legal_stop
from coldharbour.risk.losses.model import Latch, Stage
from coldharbour.web.actions.store import LotRow
from coldharbour.web.contexts import Account, WorkerView
from coldharbour.web.formats import gain, price, quantity

BREAKEVEN_WORKER = "breakeven"
LIMITS_WORKER = "limits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """An action as it is asked: obstacle says why it cannot be done now, warning what to know before it is."""

    title: str
    effect: str
    button: str
    action: Action
    worker: str
    parameters: dict[str, str] = field(default_factory=dict)
    facts: tuple[tuple[str, str], ...] = ()
    obstacle: str = ""
    warning: str = ""

    @property
    def version(self) -> str:
        """What the person has seen; another one means that it changed before they confirmed."""
        seen = "\n".join((self.title, self.effect, self.obstacle, self.warning))
        return hashlib.sha256(seen.encode()).hexdigest()[:16]


def worker_preview(action: Action, spec: WorkerSpec, worker: WorkerView) -> Preview:
    """Preview pausing, resuming or calling a worker."""
    kind = spec.kind
    facts = (("Worker", kind), ("State now", worker.word), *((("Because", worker.trouble),) if worker.trouble else ()))
    if action is Action.PAUSE:
        goes_on = "A cycle that runs is finished first. " if spec.every else ""
        return Preview(
            title=f"Pause {kind}?", button=f"Pause {kind}", action=action, worker=kind, facts=facts,
            effect=f"{goes_on}Then it does nothing until it is resumed; a restart does not end the pause.",
            obstacle=f"{kind} is paused already." if worker.state == "paused" else "",
            warning=WITHOUT.get(kind, ""),
        )  # fmt: skip
    if action is Action.RESUME:
        return Preview(
            title=f"Resume {kind}?", button=f"Resume {kind}", action=action, worker=kind, facts=facts,
            effect="It starts as after a restart: first it catches up with what it missed.",
            obstacle="" if worker.state == "paused" else f"{kind} is not paused.",
        )  # fmt: skip
    obstacle = "" if spec.every else f"{kind} runs until stopped and has no cycles."
    if worker.state in ("paused", "sleeping"):
        obstacle = f"{kind} is {worker.word}."
    return Preview(
        title=f"Run {kind} now?", button=f"Run {kind} now", action=action, worker=kind, facts=facts,
        effect="Its next cycle begins at once in place of later; one that runs is followed by another.",
        obstacle=obstacle,
    )  # fmt: skip


WITHOUT: Mapping[str, str] = {
    "stream": "While it is paused no order event is recorded as it happens; healing fetches them later.",
    "prices": "While it is paused open positions keep their last values, and break-even has no fresh ones to go by.",
    "breakeven": "While it is paused no stop moves to break-even, by itself or on request.",
    "protection": "While it is paused nobody watches for positions without a stop.",
}


def breakeven_preview(account: Account, lot: LotRow, min_gap: Decimal | None) -> Preview:
    """Preview moving one lot's stop to break-even; min_gap: as the account's worker has it, None without one."""
    side = Side(lot.side)
    shares = f"{quantity(abs(lot.qty))} {lot.symbol}"
    facts = [
        ("Position", f"{shares}, {lot.side.lower()}"),
        ("Entry", price(lot.avg_fill)),
        ("Price now", "–" if lot.mkt_px is None else price(lot.mkt_px)),
        ("Stop now", "none" if lot.sl_px is None else price(lot.sl_px)),
    ]
    obstacle, effect = "", "Its stop moves to break-even."
    try:
        wanted = legal_stop(lot.avg_fill, side, min_gap or Decimal("0.01"))
    except (NoLegalStop, ValueError) as error:
        obstacle = f"There is no break-even stop: {error}."
    else:
        facts.append(("Stop then", price(wanted)))
        if lot.sl_px is not None:
            effect = f"The stop of {shares} moves from {price(lot.sl_px)} to {price(wanted)}."
            if side.sign * (wanted - lot.sl_px) <= 0:
                obstacle = "The stop is at break-even already, or tighter; a stop never loosens."
    if lot.sl_px is None:
        obstacle = "The position has no stop of its own that could be moved."
    if min_gap is None:
        obstacle = "No breakeven worker is configured for this account."
    rules = " The worker looks once more; its trigger does not matter then, and every other rule does."
    return Preview(
        title=f"Move the stop of {lot.symbol} to break-even?", button="Move the stop", action=Action.BREAKEVEN,
        worker=BREAKEVEN_WORKER, parameters={"lot": lot.parent_id}, facts=tuple(facts), effect=effect + rules,
        obstacle=obstacle,
        warning="" if account.armed else "The account is not armed: this will be a dry run, and no stop moves.",
    )  # fmt: skip


def reset_preview(latches: Sequence[Latch]) -> Preview:
    """Preview resetting the loss limits that an account has reached."""
    facts = tuple(
        (f"{latch.stage.value.capitalize()} on {latch.session_date}", f"{gain(latch.day_pnl)} {latch.note}".strip())
        for latch in latches
    )
    effect = "What they hold back is allowed again. In this session they count on from where the day stands now."
    if any(latch.stage is Stage.FLATTEN for latch in latches):
        effect += " A flatten that is under way sends nothing more."
    return Preview(
        title="Reset the loss limits?", button="Reset", action=Action.RESET_LATCH, worker=LIMITS_WORKER, facts=facts,
        effect=effect, obstacle="" if latches else "No limit of this account is latched.",
    )  # fmt: skip
