"""The parts of a page as HTML: each is one element with an id, rendered alike for the page and for the stream.

Owns the Jinja environment; everything is escaped, so nothing the broker says is ever markup.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import BaseLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from coldharbour.hookspecs import PanelSpec
from coldharbour.web import formats
from coldharbour.web.assets import TEMPLATES_PACKAGE, Assets
from coldharbour.web.contexts import Account, AccountView, Health, WorkerView
from coldharbour.web.store import Counts

FILTERS: Mapping[str, Callable[..., str]] = {
    "average": formats.average,
    "calendar_day": formats.calendar_day,
    "clock_time": formats.clock_time,
    "day_and_time": formats.day_and_time,
    "duration": formats.duration,
    "gain": formats.gain,
    "instant": formats.instant,
    "milliseconds": formats.milliseconds,
    "moment_of_day": formats.moment_of_day,
    "money": formats.money,
    "plural": formats.plural,
    "price": formats.price,
    "quantity": formats.quantity,
    "seconds": formats.seconds,
    "tone": formats.tone,
}
NOTHING = Markup()
ACCOUNT_PARTS = ("head", "reach", "workers", "gaps", "journal", "tape")


def part_id(kind: str, slug: str) -> str:
    """Return the element id of a part of an account's card."""
    return f"{kind}-{slug}"


class Fragments:
    """Renders the pages' templates."""

    def __init__(self, assets: Assets) -> None:
        self._environment = _environment(PackageLoader(TEMPLATES_PACKAGE, ""))
        self._environment.globals["asset"] = assets.url
        self._panel_environments: dict[str, Environment] = {}

    def overview(self, accounts: Sequence[Account], panels: Sequence[PanelSpec], parts: Mapping[str, Markup]) -> str:
        """Return the page of all accounts, put together from its parts as they are now."""
        return self._render("pages/overview.html", accounts=accounts, panels=panels, part=parts.__getitem__)

    def account(self, view: AccountView) -> dict[str, Markup]:
        """Return every part of an account's card that comes from one reading, by element id."""
        return {
            part_id(kind, view.account.slug): self._render(f"fragments/{kind}.html", view=view)
            for kind in ACCOUNT_PARTS
        }

    def counts(self, slug: str, counts: Counts) -> Markup:
        """Return the figures of an account's lake."""
        return self._render("fragments/counts.html", id=part_id("counts", slug), counts=counts)

    def waiting(self, slug: str) -> dict[str, Markup]:
        """Return the parts of a card before anything could be read."""
        ids = [part_id(kind, slug) for kind in ("counts", *ACCOUNT_PARTS)]
        return {element: self._render("fragments/waiting.html", id=element) for element in ids}

    def installation(self, workers: Sequence[WorkerView], health: Health) -> Markup:
        """Return the strip of the installation's own workers."""
        return self._render("fragments/installation.html", workers=workers, health=health)

    def notice(self, lost_since: datetime | None) -> Markup:
        """Return the banner that says that the database does not answer; empty while it does."""
        return self._render("fragments/notice.html", lost_since=lost_since)

    def panel(self, spec: PanelSpec, slug: str, context: Mapping[str, Any]) -> Markup:
        """Return a plugin's panel. Raises whatever its template raises."""
        template = self._panel_environment(spec.package).get_template(spec.template)
        body = Markup(template.render(context))  # noqa: S704 - the template has escaped what it was given
        return self.bare_panel(spec, slug, body=body)

    def bare_panel(self, spec: PanelSpec, slug: str, *, body: Markup = NOTHING, error: str = "") -> Markup:
        """Return the frame of a plugin's panel, around its body or the reason why it cannot be shown."""
        element = part_id(f"panel-{spec.key}", slug)
        return self._render("fragments/panel.html", id=element, spec=spec, body=body, error=error)

    def _render(self, template: str, **context: Any) -> Markup:
        rendered = self._environment.get_template(template).render(context)
        return Markup(rendered)  # noqa: S704 - the environment escapes every value

    def _panel_environment(self, package: str) -> Environment:
        # One per plugin, made at first use: a broken package shows in its panel, and none shadows our templates.
        if package not in self._panel_environments:
            self._panel_environments[package] = _environment(PackageLoader(package, "templates"))
        return self._panel_environments[package]


def _environment(loader: BaseLoader) -> Environment:
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(FILTERS)
    return environment
