/* The equity chart: fetches an account's points when the page says that they changed, and draws them; computes no money. */

const DAYS = { "1M": 31, "3M": 92, "1Y": 366, All: Infinity };
const DAY_S = 86_400;
const MOST_MARKED = 130; // points; above it the marks of trades hide the curve
const clock = new Intl.DateTimeFormat("en-GB", { timeZone: "America/New_York", hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat("en-CA", { timeZone: "America/New_York" });

const seconds = (iso) => Date.parse(iso) / 1000;
const sessionOf = (iso) => day.format(new Date(iso));
const percent = (number) => {
  const rounded = Math.round(number * 100) / 100;
  return `${rounded > 0 ? "+" : rounded < 0 ? "\u2212" : ""}${Math.abs(rounded).toFixed(2)} %`;
};
const money = (number) => number.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

/* Points of the daily curve: the return since the day before the window began, and the drawdown of all time. */
function dailyPoints(sessions, days) {
  const newest = sessions.at(-1) && Date.parse(sessions.at(-1).session_date) / 1000;
  const first = sessions.findIndex((one) => Date.parse(one.session_date) / 1000 > newest - days * DAY_S);
  const base = 1 + (first > 0 ? sessions[first - 1].cumulative_return : 0);
  return sessions.slice(Math.max(first, 0)).map((one) => ({
    time: one.session_date,
    value: 100 * ((1 + one.cumulative_return) / base - 1),
    drawdown: 100 * one.drawdown,
    equity: one.deposit,
    partial: !one.complete,
  }));
}

/* Points of one session: the return since the previous close, and how far it is below the session's best. */
function minutePoints({ series, meta }) {
  let best = 1;
  return series.map((one) => {
    const growth = meta.baseline_deposit > 0 ? 1 + one.profit / meta.baseline_deposit : 1;
    best = Math.max(best, growth);
    return {
      time: seconds(one.at),
      value: 100 * (growth - 1),
      drawdown: 100 * (growth / best - 1),
      equity: one.equity,
      partial: !one.complete,
    };
  });
}

/* For each point that lies in a blind time of the order stream, a bar over the whole height. */
function blindBars(points, gaps, colour) {
  const spans = gaps.map((gap) => [gap.blind_from, gap.blind_to ?? new Date().toISOString()]);
  const isBlind = (time) =>
    typeof time === "string"
      ? spans.some(([from, to]) => sessionOf(from) <= time && time <= sessionOf(to))
      : spans.some(([from, to]) => seconds(from) < time + 60 && time < seconds(to));
  return points.filter((point) => isBlind(point.time)).map((point) => ({ time: point.time, value: 1, color: colour }));
}

/* What was entered and closed at each point, as one mark for each kind. */
function marks(points, trades, positions, colours) {
  const times = new Set(points.map((point) => point.time));
  const isDaily = typeof points[0]?.time === "string";
  const at = (iso) => (isDaily ? sessionOf(iso) : Math.floor(seconds(iso) / 60) * 60);
  const entries = new Map();
  const exits = new Map();
  for (const trade of trades) {
    const result = exits.get(at(trade.exit_time)) ?? { count: 0, pnl: 0 };
    exits.set(at(trade.exit_time), { count: result.count + 1, pnl: result.pnl + trade.pnl_cash });
  }
  const entered = new Map([...trades.map((one) => [one.entry_lot_id, one]), ...positions.map((one) => [one.parent_id, one])]);
  for (const one of entered.values()) entries.set(at(one.entry_time), (entries.get(at(one.entry_time)) ?? 0) + 1);
  const size = points.length < 40 ? 0.5 : 1; // they grow with the room between two points
  const found = [];
  for (const [time, count] of entries) {
    if (times.has(time)) found.push({ time, size, position: "belowBar", shape: "arrowUp", color: colours.soft, text: count > 1 ? `${count}` : "" });
  }
  for (const [time, { count, pnl }] of exits) {
    if (times.has(time)) found.push({ time, size, position: "aboveBar", shape: "circle", color: pnl < 0 ? colours.loss : colours.gain, text: count > 1 ? `${count}` : "" });
  }
  return found.sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0));
}

class EquityChart extends HTMLElement {
  static observedAttributes = ["data-version", "data-words"];
  #mode = "1Y";
  #trades = true;
  #answers = {};
  #shown = new Map(); // time -> point, for the line of values
  #pointed; // the time under the crosshair
  #chosen; // the time that keys led to
  #latest = 0; // the newest request: an older answer is dropped

  connectedCallback() {
    this.#build();
    this.observer = new MutationObserver(() => this.#paint());
    this.observer.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.repaint = () => this.#paint();
    this.scheme.addEventListener("change", this.repaint);
    this.#start();
  }

  disconnectedCallback() {
    this.observer.disconnect();
    this.scheme.removeEventListener("change", this.repaint);
    this.chart?.remove();
    this.chart = undefined;
  }

  attributeChangedCallback(name) {
    if (!this.chart) return;
    if (name === "data-words") this.#describe();
    else this.#refresh();
  }

  #build() {
    const remembered = localStorage.getItem("chart");
    if (remembered === "Day" || Object.hasOwn(DAYS, remembered)) this.#mode = remembered;
    const bar = document.createElement("div");
    bar.className = "chart-bar";
    const windows = document.createElement("span");
    windows.setAttribute("role", "group");
    windows.setAttribute("aria-label", "What the chart spans");
    this.buttons = ["Day", ...Object.keys(DAYS)].map((name) => this.#button(name, () => this.#choose(name)));
    windows.append(...this.buttons);
    this.tradesButton = this.#button("Trades", () => this.#toggleTrades());
    this.values = document.createElement("output");
    this.values.className = "chart-values num";
    this.values.setAttribute("aria-live", "off"); // read out for the keys alone: figures come by themselves
    bar.append(windows, this.tradesButton, this.values);
    this.canvas = document.createElement("div");
    this.canvas.className = "chart-canvas";
    this.canvas.setAttribute("role", "img");
    this.canvas.tabIndex = 0;
    this.canvas.addEventListener("keydown", (event) => this.#onKey(event));
    this.canvas.addEventListener("focus", () => this.values.setAttribute("aria-live", "polite"));
    this.canvas.addEventListener("blur", () => {
      this.values.setAttribute("aria-live", "off");
      this.#point(undefined);
    });
    this.replaceChildren(bar, this.canvas);
    this.#describe();
    this.#press();
  }

  #button(name, act) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", act);
    return button;
  }

  #press() {
    for (const button of this.buttons) button.setAttribute("aria-pressed", String(button.textContent === this.#mode));
    this.tradesButton.setAttribute("aria-pressed", String(this.#trades));
  }

  #describe() {
    this.canvas.setAttribute("aria-label", this.dataset.words);
  }

  #choose(name) {
    this.#mode = name;
    localStorage.setItem("chart", name);
    this.#press();
    this.#refresh(true);
  }

  #toggleTrades() {
    this.#trades = !this.#trades;
    this.#press();
    this.#show(false);
  }

  /* The arrow keys lead the crosshair from point to point; what stands there is told as for the pointer. */
  #onKey(event) {
    const times = [...this.#shown.keys()];
    const at = this.#pointed === undefined ? times.length : times.indexOf(this.#pointed);
    const next = { ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at - 20, PageDown: at + 20, Home: 0, End: times.length - 1 }[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey) return; // the browser's own
    if (event.key === "Escape") return this.#point(undefined);
    if (next === undefined || !times.length) return;
    event.preventDefault();
    this.#point(times[Math.min(Math.max(next, 0), times.length - 1)]);
  }

  #point(time) {
    this.#chosen = time;
    if (time === undefined) this.chart?.clearCrosshairPosition();
    else this.chart.setCrosshairPosition(this.#shown.get(time).value, time, this.curve);
    this.#tell(time);
  }

  /* When the curve grows the chart leaves the crosshair where it is on the screen; what keys led to is led after. */
  #onMove({ time, sourceEvent }) {
    if (sourceEvent) this.#chosen = undefined;
    if (!this.#shown.has(this.#chosen)) this.#tell(time);
    else if (time !== this.#chosen) this.#point(this.#chosen);
  }

  async #start() {
    const { createChart, createSeriesMarkers, BaselineSeries, AreaSeries, HistogramSeries } = await import(this.dataset.module);
    if (!this.isConnected || this.chart) return;
    this.chart = createChart(this.canvas, {
      autoSize: true,
      layout: { attributionLogo: false, background: { color: "transparent" }, fontSize: 11, panes: { enableResize: false } },
      timeScale: { minBarSpacing: 0.05, rightOffset: 2, tickMarkFormatter: (time, kind) => this.#tick(time, kind) },
      localization: { timeFormatter: (time) => (typeof time === "number" ? `${clock.format(time * 1000)} New York` : String(time)) },
      handleScroll: { vertTouchDrag: false, mouseWheel: false },
      handleScale: { mouseWheel: false },
    });
    const price = { type: "custom", minMove: 0.01, formatter: percent };
    this.blind = this.chart.addSeries(HistogramSeries, { priceScaleId: "blind", priceLineVisible: false, lastValueVisible: false });
    this.chart.priceScale("blind").applyOptions({ scaleMargins: { top: 0, bottom: 0 } });
    this.curve = this.chart.addSeries(BaselineSeries, { baseValue: { type: "price", price: 0 }, lineWidth: 2, priceFormat: price });
    this.depth = this.chart.addSeries(AreaSeries, { lineWidth: 1, priceFormat: price, invertFilledArea: true, priceLineVisible: false }, 1);
    this.markers = createSeriesMarkers(this.curve, []);
    this.chart.panes()[0].setStretchFactor(3);
    this.chart.panes()[1].setStretchFactor(1);
    this.chart.subscribeCrosshairMove((move) => this.#onMove(move));
    this.#paint();
    await this.#refresh(true);
  }

  #tick(time, kind) {
    if (typeof time === "number") return clock.format(time * 1000);
    const [year, month, date] = String(time).split("-");
    return kind === 0 ? year : kind === 1 ? new Date(Date.UTC(year, month - 1)).toLocaleString("en", { month: "short", timeZone: "UTC" }) : date;
  }

  async #ask(name) {
    // The browser keeps the answer and its tag: what did not change is not sent again.
    const answer = await fetch(`/${this.dataset.slug}/api/${name}`, { cache: "no-cache" });
    if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
    return answer.json();
  }

  async #refresh(fit = false) {
    const mine = ++this.#latest;
    try {
      const curve = this.#mode === "Day" ? "equity_intraday" : "equity";
      const [points, gaps, trades, positions] = await Promise.all(
        [curve, "gaps", "closed?limit=1000", "positions"].map((name) => this.#ask(name)),
      );
      if (mine !== this.#latest || !this.chart) return;
      this.#answers = { points, gaps, trades, positions };
      this.#show(fit);
    } catch (error) {
      if (mine === this.#latest) this.values.textContent = `the points cannot be fetched (${error.message})`;
    }
  }

  #show(fit) {
    const { points: answer, gaps, trades, positions } = this.#answers;
    if (!answer) return;
    const points = this.#mode === "Day" ? minutePoints(answer) : dailyPoints(answer, DAYS[this.#mode]);
    this.#shown = new Map(points.map((point) => [point.time, point]));
    this.chart.timeScale().applyOptions({ timeVisible: this.#mode === "Day", secondsVisible: false });
    this.curve.setData(points.map(({ time, value }) => ({ time, value })));
    this.depth.setData(points.map(({ time, drawdown }) => ({ time, value: drawdown })));
    const bars = blindBars(points, gaps, this.colours.blind);
    const isMarked = this.#trades && (this.#mode === "Day" || points.length <= MOST_MARKED);
    const marked = isMarked ? marks(points, trades, positions, this.colours) : [];
    this.blind.setData(bars);
    this.markers.setMarkers(marked);
    this.#count(marked, bars);
    if (fit) this.chart.timeScale().fitContent();
    this.canvas.dataset.points = String(points.length);
    if (this.#shown.has(this.#chosen)) this.#point(this.#chosen);
    else this.#tell(this.#pointed);
  }

  /* Says in words what the marks and bands are seen by. */
  #count(marked, bars) {
    const places = (number, of) => `${number} ${this.#mode === "Day" ? "minute" : "day"}${number === 1 ? "" : "s"} with ${of}`;
    const entries = marked.filter((mark) => mark.position === "belowBar").length;
    const parts = [places(bars.length, "blind times of the order stream")];
    if (marked.length) parts.unshift(places(entries, "entries"), places(marked.length - entries, "closed trades"));
    this.canvas.setAttribute("aria-description", parts.join(", "));
  }

  #tell(time) {
    this.#pointed = this.#shown.has(time) ? time : undefined;
    const point = this.#shown.get(time) ?? [...this.#shown.values()].at(-1);
    if (!point) return void (this.values.textContent = "no points in this window");
    const when = typeof point.time === "number" ? `${clock.format(point.time * 1000)} New York` : point.time;
    const parts = [when, money(point.equity), percent(point.value), `drawdown ${percent(point.drawdown)}`];
    this.values.textContent = parts.join("  ·  ") + (point.partial ? "  ·  a price is missing" : "");
    this.values.dataset.tone = point.value < 0 ? "loss" : "gain";
  }

  #paint() {
    if (!this.chart) return;
    const probe = this.canvas.appendChild(document.createElement("i"));
    const read = (name, alpha = 1) => {
      probe.style.color = `var(--${name})`;
      const [r, g, b] = getComputedStyle(probe).color.match(/[\d.]+/g);
      return `rgba(${r}, ${g}, ${b}, ${alpha})`;
    };
    this.colours = { gain: read("gain"), loss: read("loss"), soft: read("soft"), blind: read("warn", 0.22) };
    this.chart.applyOptions({
      layout: { textColor: read("soft"), panes: { separatorColor: read("line") } },
      grid: { vertLines: { color: read("line-soft") }, horzLines: { color: read("line-soft") } },
      rightPriceScale: { borderColor: read("line") },
      timeScale: { borderColor: read("line") },
      crosshair: { vertLine: { color: read("soft"), labelBackgroundColor: read("idle") }, horzLine: { color: read("soft"), labelBackgroundColor: read("idle") } },
    });
    this.curve.applyOptions({
      topLineColor: read("gain"), topFillColor1: read("gain", 0.25), topFillColor2: read("gain", 0.03),
      bottomLineColor: read("loss"), bottomFillColor1: read("loss", 0.03), bottomFillColor2: read("loss", 0.25),
    });
    this.depth.applyOptions({ lineColor: read("loss"), topColor: read("loss", 0.05), bottomColor: read("loss", 0.3) });
    probe.remove();
    this.#show(false);
  }
}

customElements.define("equity-chart", EquityChart);
