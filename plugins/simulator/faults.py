"""The fault switches: names, limits, present values and seeded draws; owns no socket and does no harm itself.

The servers ask it at each request, frame and price; a change is seen by the next one.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from coldharbour.clock import Clock, SystemClock

from .quirks import BrokerQuirks

Rate = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]
Method = Literal["GET", "POST", "PATCH", "DELETE"]


class Switches(BaseModel):
    """The faults of the servers, as values; the defaults are a broker on its best day.

    A `_rate` is the share (0 to 1) of requests, frames or prices that are hit; a `_now` acts once and
    falls back to false.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rest_limit_per_min: int = Field(100_000, gt=0, description="Requests a minute per account before 429.")
    rest_429_rate: Rate = Field(0, description="Answered 429 without being done.")
    rest_retry_after_s: Seconds | None = Field(None, description="Retry-After of every 429; null = absent.")
    rest_error_rate: Rate = Field(0, description="Answered with rest_error_status without being done.")
    rest_error_after_effect_rate: Rate = Field(0, description="Done, then answered with rest_error_status.")
    rest_late_effect_rate: Rate = Field(0, description="Answered at once like an error, done later.")
    rest_late_effect_s: Seconds = Field(5, description="Seconds until a late effect happens.")
    rest_error_status: Literal[500, 502, 503, 504] = Field(504, description="Status of injected errors.")
    rest_error_html: bool = Field(default=False, description="Errors carry a proxy's HTML page, not JSON.")
    rest_hang_rate: Rate = Field(0, description="Never done and never answered.")
    rest_hang_after_effect_rate: Rate = Field(0, description="Done, and never answered.")
    rest_cut_rate: Rate = Field(0, description="The body breaks off in the middle.")
    rest_wrong_json_rate: Rate = Field(0, description="Valid JSON of a shape nobody promised.")
    rest_repeat_page_rate: Rate = Field(0, description="The page token is ignored: the same page again.")
    rest_partial_page_rate: Rate = Field(0, description="The second half of a list is missing.")
    rest_delay_s: Seconds = Field(0, description="Seconds before each answer.")
    rest_hold: bool = Field(default=False, description="Requests wait, not done, for as long as this is true.")
    rest_methods: list[Method] = Field([], description="REST faults hit only these methods; empty = all.")
    rest_paths: list[str] = Field([], description="REST faults hit only paths holding one of these texts.")
    rest_fault_limit: int | None = Field(None, ge=0, description="REST faults still to come; null = no end.")
    rest_accounts: list[str] = Field([], description="REST faults hit only these accounts; empty = all.")

    stream_accounts: list[str] = Field([], description="Stream faults hit only these accounts; empty = all.")
    stream_drop_now: bool = Field(default=False, description="Reset every open websocket, once.")
    stream_drop_every: int = Field(0, ge=0, description="Cut a websocket after so many frames; 0 = never.")
    stream_mute: bool = Field(default=False, description="No event is sent; pings are answered.")
    stream_mute_now: bool = Field(default=False, description="Mute the websockets now open until they reconnect.")
    stream_lose_rate: Rate = Field(0, description="Events that are never sent.")
    stream_duplicate_rate: Rate = Field(0, description="Events that are sent again.")
    stream_duplicate_max: int = Field(1, ge=1, le=5, description="Most repeats of one duplicated event.")
    stream_conflict_rate: Rate = Field(0, description="Events sent again, same ids, other content.")
    stream_reorder_window: int = Field(0, ge=0, le=1_000, description="Shuffles within so many events; 0 = in order.")
    stream_malformed_rate: Rate = Field(0, description="Frames whose JSON breaks off.")
    stream_missing_field_rate: Rate = Field(0, description="Frames whose order has lost a field.")
    stream_unknown_event_rate: Rate = Field(0, description="Frames with an event name from the future.")
    stream_unknown_status_rate: Rate = Field(0, description="Frames with an order status from the future.")
    stream_refuse_s: Seconds = Field(0, description="Refuse websockets for so many seconds from now.")
    stream_refuse_status: Literal[401, 403, 429, 500, 503] = Field(
        429, description="HTTP status of a refused upgrade; 401 upgrades and then answers unauthorized."
    )
    stream_text_frames: bool = Field(default=False, description="Text frames instead of paper's binary ones.")
    stream_queue_frames: int = Field(
        20_000, gt=0, description="Frames that wait for a slow client before it is cut; for new connections."
    )
    stream_second: Literal["refuse", "replace", "allow"] = Field(
        "refuse", description="What a second websocket of one account meets."
    )

    price_mute: bool = Field(default=False, description="The feed is connected and silent.")
    price_bad_rate: Rate = Field(0, description="Prices that are 0, negative, not a number, or tenfold.")
    price_stale_rate: Rate = Field(0, description="Prices stamped a minute ago.")
    price_excluded_rate: Rate = Field(0, description="Tenfold prices, disqualified by their condition.")
    price_malformed_rate: Rate = Field(0, description="Messages that are not msgpack.")


class UnknownFaultError(ValueError):
    """Switches that do not exist, or values they cannot take; `body` is the answer, naming all that do."""

    def __init__(self, problems: list[str], known: list[str]) -> None:
        self.body = {"message": "; ".join(problems), "known": known}
        super().__init__(self.body["message"])


class FaultBoard:
    """All switches of one simulator, the servers' and the engine's, under one listing.

    seed: replays the same draws for the same traffic. quirks: the engine's own switches, changed in place.
    """

    def __init__(self, *, seed: int, quirks: BrokerQuirks, clock: Clock | None = None) -> None:
        self.switches = Switches.model_validate({})
        self.injected: dict[str, int] = {}
        self._quirks = quirks
        self._clock = clock or SystemClock()  # the wire is real, even where the broker's time is not
        self._random = {part: random.Random(f"{seed}/{part}") for part in ("rest", "stream", "price")}
        self._refused_until_s = -1.0
        self._listeners: list[Callable[[Switches], None]] = []

    def listing(self) -> list[dict[str, object]]:
        """Return every switch: name, value, default, part it belongs to, meaning, and how often it hit."""
        rows = [
            self._row(name, _part(name), getattr(self.switches, name), info.default, info.description)
            for name, info in Switches.model_fields.items()
        ]
        calm, about = BrokerQuirks(), _meanings(BrokerQuirks)
        for name in _quirk_types():
            present, default = getattr(self._quirks, name), getattr(calm, name)
            rows.append(self._row(name, "broker", present, default, about.get(name)))
        return rows

    def change(self, values: Mapping[str, object], *, reset: bool = False) -> None:
        """Set the switches named; with `reset`, all others fall back to their defaults.

        All or nothing: raises UnknownFaultError, and changes nothing, if any name or value is not possible.
        """
        quirk_types = _quirk_types()
        own = {name: value for name, value in values.items() if name not in quirk_types}
        kept = {} if reset else self.switches.model_dump()
        problems: list[str] = []
        switches = self.switches
        try:
            switches = Switches.model_validate({**kept, **own})
        except ValidationError as error:
            problems += [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        quirks = dataclasses.asdict(BrokerQuirks() if reset else self._quirks)
        for name in values.keys() & quirk_types.keys():
            try:
                quirks[name] = quirk_types[name].validate_python(values[name], strict=False)
            except ValidationError as error:
                problems += [f"{name}: {item['msg']}" for item in error.errors()]
        if problems:
            raise UnknownFaultError(problems, [*Switches.model_fields, *quirk_types])
        for name, value in quirks.items():
            setattr(self._quirks, name, value)
        self._apply(switches, refuse_anew="stream_refuse_s" in values or reset)

    def on_change(self, listener: Callable[[Switches], None]) -> None:
        """Have `listener` called with the switches at each change, the momentary `_now` ones included."""
        self._listeners.append(listener)

    def hits(self, name: str) -> bool:
        """Draw whether the `_rate` switch of that name hits this time, and count it if so."""
        rate: float = getattr(self.switches, name)
        if rate <= 0 or self.random(name).random() >= rate:
            return False
        self.count(name)
        return True

    def count(self, name: str) -> None:
        """Note that a switch did its harm once."""
        self.injected[name] = self.injected.get(name, 0) + 1

    def random(self, name: str) -> random.Random:
        """Return the generator of the part (rest, stream, price) that a switch belongs to."""
        return self._random[_part(name)]

    def hits_rest(self, name: str) -> bool:
        """Draw like `hits`, within what is left of rest_fault_limit."""
        left = self.switches.rest_fault_limit
        if left == 0 or not self.hits(name):
            return False
        if left is not None:
            self.switches = self.switches.model_copy(update={"rest_fault_limit": left - 1})
        return True

    def rest_may_hit(self, method: str, path: str, account: str) -> bool:
        """Tell whether the REST filters leave this request open to faults."""
        now = self.switches
        return (
            (not now.rest_methods or method in now.rest_methods)
            and (not now.rest_paths or any(text in path for text in now.rest_paths))
            and (not now.rest_accounts or account in now.rest_accounts)
        )

    def refuses_streams(self) -> bool:
        """Tell whether websockets are turned away at this moment."""
        return self._clock.monotonic() < self._refused_until_s

    def _apply(self, switches: Switches, *, refuse_anew: bool) -> None:
        if refuse_anew:
            self._refused_until_s = self._clock.monotonic() + switches.stream_refuse_s
        self.switches = switches.model_copy(update={"stream_drop_now": False, "stream_mute_now": False})
        for listener in self._listeners:
            listener(switches)

    def _row(self, name: str, part: str, value: object, default: object, about: str | None) -> dict[str, object]:
        row = {"name": name, "value": value, "default": default, "part": part, "about": about}
        return {**row, "hits": self.injected.get(name, 0)}


def _part(name: str) -> str:
    return name.partition("_")[0]


@lru_cache(maxsize=1)
def _quirk_types() -> Mapping[str, TypeAdapter[Any]]:
    return {name: TypeAdapter(kind) for name, kind in get_type_hints(BrokerQuirks).items()}


def _meanings(documented: type) -> dict[str, str]:
    """Read `name: meaning` lines from a docstring, so that a switch is described in one place only."""
    return dict(re.findall(r"^\s*(\w+): (.+)$", documented.__doc__ or "", re.MULTILINE))
