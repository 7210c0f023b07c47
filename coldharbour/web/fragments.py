"""The parts of a page as HTML: each is one element with an id, rendered alike for the page and for the stream.

Owns the Jinja environment; everything is escaped, so nothing the broker says is ever markup.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import BaseLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from coldharbour.hookspecs import PanelSpec
from coldharbour.web import formats
from coldharbour.web.assets import TEMPLATES_PACKAGE, Assets
from coldharbour.web.contexts import Account, AccountView, Health, WorkerView
from coldharbour.web.events import partial
from coldharbour.web.standings import Group, Standing
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
    "percent": formats.percent,
    "plural": formats.plural,
    "price": formats.price,
    "quantity": formats.quantity,
    "seconds": formats.seconds,
    "tone": formats.tone,
}
NOTHING = Markup()
OPERATIONS = ("reach", "workers", "gaps", "journal", "tape")


class Fragments:
    """Renders the pages' templates."""

    def __init__(
        self,
        assets: Assets,
        *,
        actions: bool = False,
        login: bool = False,
        cycles: Collection[str] = (),
        polls: bool = False,
    ) -> None:
        """actions, login: whether the pages offer buttons that change something, and a way out.

        cycles: the kinds of worker that have cycles to be called.
        polls: whether pages ask for what changed now and then instead of holding a stream open.
        """
        offers = {"actions": actions, "login": login, "cycles": cycles}
        self._globals = {"asset": assets.url, "offers": offers, "polls": polls}
        self._environment = self._new_environment(PackageLoader(TEMPLATES_PACKAGE, ""))
        self._panel_environments: dict[str, Environment] = {}

    def overview(self, accounts: Iterable[Account], parts: Mapping[str, Markup]) -> str:
        """Return the page of all accounts, put together from its parts as they are now."""
        return self._render("pages/overview.html", accounts=list(accounts), part=parts.__getitem__)

    def dashboard(self, account: Account, panels: Sequence[PanelSpec], parts: Mapping[str, Markup]) -> str:
        """Return the page of one account, put together from its parts as they are now."""
        return self._render("pages/dashboard.html", account=account, panels=panels, part=parts.__getitem__)

    def everything(self, parts: Mapping[str, Markup]) -> str:
        """Return every part of a page, each to be put into its place; what a polling page asks for."""
        return "".join(partial(part, html) for part, html in parts.items())

    def page(self, template: str, **context: Any) -> str:
        """Return a page that stands by itself, such as the login."""
        return self._render(template, **context)

    def panel_page(self, account: Account, panel: PanelSpec, body: Markup, parts: Mapping[str, Markup]) -> str:
        """Return a page with one panel alone."""
        return self._render("pages/panel.html", account=account, panel=panel, body=body, part=parts.__getitem__)

    def trade(self, **context: Any) -> Markup:
        """Return the page of one trade."""
        return self._render("pages/trade.html", **context)

    def head(self, view: AccountView) -> Markup:
        """Return how an account does in a line: its workers and its market."""
        return self._render("fragments/head.html", view=view)

    def standing(self, standing: Standing) -> Markup:
        """Return where an account stands, in figures."""
        return self._render("fragments/standing.html", standing=standing)

    def operations(self, view: AccountView) -> dict[str, Markup]:
        """Return every part of a dashboard that comes from one reading of the lake, by element id."""
        return {f"{kind}-{view.account.slug}": self._render(f"fragments/{kind}.html", view=view) for kind in OPERATIONS}

    def counts(self, slug: str, counts: Counts) -> Markup:
        """Return the figures of an account's lake."""
        return self._render("fragments/counts.html", slug=slug, counts=counts)

    def pulse(self, slug: str, as_of: datetime | None) -> Markup:
        """Return the sign that an account's parts were current at a moment; the page counts from it."""
        return self._render("fragments/pulse.html", slug=slug, as_of=as_of)

    def tabs(
        self,
        current: str,
        accounts: Iterable[Account],
        standings: Mapping[str, Standing],
        views: Mapping[str, AccountView],
    ) -> Markup:
        """Return the tabs of all accounts as one account's page has them."""
        tabs = [(account, standings.get(account.slug), views.get(account.slug)) for account in accounts]
        return self._render("fragments/tabs.html", current=current, tabs=tabs)

    def totals(self, groups: Sequence[Group]) -> Markup:
        """Return the sums over the accounts of each venue."""
        return self._render("fragments/totals.html", groups=groups)

    def waiting(self, slug: str, panels: Iterable[PanelSpec]) -> dict[str, Markup]:
        """Return the parts of a dashboard before anything could be read."""
        names = [f"{kind}-{slug}" for kind in ("head", "standing", "counts", *OPERATIONS)]
        parts = {name: self._render("fragments/waiting.html", id=name) for name in names}
        parts |= {f"panel-{panel.key}-{slug}": self.bare_panel(panel, slug) for panel in panels}
        return parts | {f"pulse-{slug}": self.pulse(slug, None)}

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
        return self._render("fragments/panel.html", slug=slug, spec=spec, body=body, error=error)

    def _render(self, template: str, **context: Any) -> Markup:
        rendered = self._environment.get_template(template).render(context)
        return Markup(rendered)  # noqa: S704 - the environment escapes every value

    def _panel_environment(self, package: str) -> Environment:
        # One per plugin, made at first use: a broken package shows in its panel, and none shadows our templates.
        if package not in self._panel_environments:
            self._panel_environments[package] = self._new_environment(PackageLoader(package, "templates"))
        return self._panel_environments[package]

    def _new_environment(self, loader: BaseLoader) -> Environment:
        environment = Environment(
            loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        environment.filters.update(FILTERS)
        environment.globals |= self._globals
        return environment
