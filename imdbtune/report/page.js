// The interactive parts of a report. Without them the page shows the same in its figures and tables,
// which are also what is printed. A trial is named by its row in the table of all trials. Together with
// charts.js and table.js this is one script.

const table = document.getElementById("trials");
const rows = table ? [...table.tBodies[0].rows] : [];
const headings = table ? [...table.tHead.rows[0].cells] : [];
const nameColumn = headings.findIndex((heading) => heading.textContent === "trial");
const TIP_DELAY = 300; // milliseconds in which the pointer may move on to the tip

const state = {
  shown: rows.map(() => 1),
  on: rows.map(() => 1), // whose curves are switched on
  brushes: charts.axes.map(() => null), // [end, end] in pixels
  level: charts.levels.findIndex(([level]) => level === 95),
  isPinned: false,
};
const statuses = [];
let views = [];

const sight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const chart = views.find(({ container }) => container === target);
    chart.isInSight = isIntersecting;
    if (chart.isStale) redraw(chart);
  }
}, { rootMargin: "200px" });

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function setSignal(name, value) {
  for (const chart of views) {
    if (!chart.names.has(name)) continue;
    chart.view.signal(name, value);
    redraw(chart);
  }
}

/**
 * Draw a chart anew, once it is in sight and its last drawing has ended: Vega logs an error where
 * two overlap.
 */
function redraw(chart) {
  chart.isStale = !chart.isInSight;
  if (chart.isStale || chart.isWaiting) return;
  chart.isWaiting = true;
  chart.drawn = chart.drawn.then(() => {
    chart.isWaiting = false;
    return chart.view.runAsync();
  });
}

// The tip: it names the trial that the pointer is on and links to its run.

const tip = element("div", { id: "tip", hidden: true, role: "dialog" });
tip.setAttribute("aria-label", "Trial");
let tipTimer = 0;

function showTip(row, event) {
  clearTimeout(tipTimer);
  const name = element("b", {}, ...[...rows[row].cells[nameColumn].childNodes].map((node) => node.cloneNode(true)));
  const values = headings.map((heading, column) => [heading, rows[row].cells[column]])
    .filter((_, column) => column !== nameColumn)
    .flatMap(([heading, cell]) => [element("dt", {}, heading.textContent), element("dd", {}, cell.textContent)]);
  const find = element("button", { type: "button", onclick: () => findRow(row) }, "Show in the table");
  tip.replaceChildren(name, element("dl", {}, ...values), find);
  tip.hidden = false;
  const left = Math.min(event.pageX + 14, scrollX + document.documentElement.clientWidth - tip.offsetWidth - 8);
  const isBelow = event.clientY + tip.offsetHeight + 20 < innerHeight;
  tip.style.left = `${Math.max(scrollX + 4, left)}px`;
  tip.style.top = `${isBelow ? event.pageY + 12 : Math.max(scrollY, event.pageY - tip.offsetHeight - 12)}px`;
}

function hideTip() {
  clearTimeout(tipTimer);
  state.isPinned = false;
  tip.hidden = true;
  setSignal("hot", -1);
}

function hideTipSoon() {
  clearTimeout(tipTimer);
  if (!state.isPinned) tipTimer = setTimeout(hideTip, TIP_DELAY);
}

function findRow(row) {
  hideTip();
  const details = table.closest("details");
  if (details) details.open = true;
  rows[row].tabIndex = -1;
  rows[row].scrollIntoView({ block: "center" });
  rows[row].focus({ preventScroll: true });
}

function enableTip() {
  document.body.append(tip);
  tip.addEventListener("pointerenter", () => clearTimeout(tipTimer));
  tip.addEventListener("pointerleave", hideTipSoon);
  document.addEventListener("keydown", (event) => event.key === "Escape" && hideTip());
  document.addEventListener("pointerdown", (event) => {
    if (!tip.contains(event.target) && !event.target.closest(".chart")) hideTip();
  });
}

// The charts: each takes the place of a figure.

/** Return an element above a figure for its chart, or null if the page has no such figure. */
function place(name) {
  const figure = document.querySelector(`figure[data-figure="${CSS.escape(name)}"]`);
  if (!figure) return null;
  let container = figure.querySelector(".chart");
  if (!container) {
    container = element("div", { className: "chart" });
    figure.querySelector(".scroll").append(container);
    figure.classList.add("live");
  }
  return { container, figure, description: figure.querySelector("img").alt };
}

function draw(name, spec, theme) {
  const { container, description } = place(name);
  const runtime = vega.parse({ ...spec, description: `${description} The table of all trials has the same numbers.` }, config(theme), { ast: true });
  const view = new vega.View(runtime, { expr: expressionInterpreter, renderer: "svg", container });
  view.width(container.clientWidth).signal("shown", state.shown);
  let last = -1;
  view.addEventListener("pointermove", (event, item) => {
    const row = item?.datum?.row ?? -1;
    if (state.isPinned || row === last || event.buttons) return;
    last = row;
    setSignal("hot", row);
    if (row < 0) hideTipSoon();
    else showTip(row, event);
  });
  view.addEventListener("click", (event, item) => {
    const row = item?.datum?.row ?? -1;
    hideTip();
    if (row < 0) return;
    setSignal("hot", row);
    showTip(row, event);
    state.isPinned = true;
  });
  container.addEventListener("pointerleave", () => { last = -1; hideTipSoon(); });
  views.push({ view, container, names: new Set(spec.signals.map((signal) => signal.name)), drawn: Promise.resolve(), isWaiting: false, isInSight: true });
  sight.observe(container);
  return view;
}

function drawAll() {
  sight.disconnect();
  for (const { view } of views) view.finalize();
  views = [];
  const theme = readTheme();
  for (const [name, scatter] of Object.entries(charts.scatters)) {
    if (place(name)) draw(name, scatterSpec(scatter, theme), theme);
  }
  if (charts.curves.length && place("curves")) {
    draw("curves", curvesSpec(curveColours(theme), theme), theme).signal("on", state.on);
  }
  if (charts.intervals.length && place("intervals")) draw("intervals", intervalsSpec(charts.intervals, theme), theme);
  if (charts.axes.length && place("parallel")) {
    const view = draw("parallel", parallelSpec(charts.axes, charts.accuracies, theme), theme);
    state.brushes.forEach((brush, k) => {
      view.signal(`brush_${k}`, brush);
      view.addSignalListener(`brush_${k}`, (_, value) => { state.brushes[k] = value; applyFilters(); });
    });
  }
  setLevel(state.level);
  views.forEach(redraw);
}

function curveColours(theme) {
  const colours = rows.map(() => theme.trial);
  charts.curves.slice(0, theme.series.length).forEach(({ row }, rank) => { colours[row] = theme.series[rank]; });
  return colours;
}

/** Add the switches of the curves: one for each trial, and buttons for several. */
function addSwitches() {
  const { figure } = place("curves");
  const boxes = charts.curves.map(({ row, best }, rank) => {
    const box = element("input", { type: "checkbox", checked: true, onchange: () => switchCurves() });
    const line = element("span", { className: `swatch swatch-${rank}` });
    const label = element("label", {}, box, line, `${rows[row].cells[nameColumn].textContent}, ${best}`);
    label.addEventListener("pointerenter", () => setSignal("hot", row));
    label.addEventListener("pointerleave", () => setSignal("hot", -1));
    return { box, row, label };
  });
  const switchCurves = () => {
    state.on = rows.map(() => 0); // a new array: Vega compares signals by identity
    for (const { box, row } of boxes) state.on[row] = box.checked ? 1 : 0;
    setSignal("on", state.on);
  };
  const switchTo = (isOn) => {
    boxes.forEach(({ box }, rank) => { box.checked = isOn(rank); });
    switchCurves();
  };
  const button = (text, isOn) => element("button", { type: "button", onclick: () => switchTo(isOn) }, text);
  const buttons = [button("All", () => true), button("None", () => false)];
  if (boxes.length > 5) buttons.push(button("Best five", (rank) => rank < 5));
  const list = element("div", { className: "switches" }, ...boxes.map(({ label }) => label));
  figure.append(element("fieldset", { className: "controls" }, element("legend", {}, "Curves"), ...buttons, list));
}

/** Set the level of all intervals: in the chart, and where the text has their half widths. */
function setLevel(index) {
  state.level = index;
  const [level, z] = charts.levels[index];
  setSignal("z", z);
  setSignal("level", String(level));
  for (const each of document.querySelectorAll("[data-level]")) each.textContent = level;
  for (const each of document.querySelectorAll("[data-error]")) {
    each.textContent = (z * Number(each.dataset.error)).toFixed(Number(each.dataset.digits));
  }
}

function addSlider() {
  const { figure } = place("intervals");
  const output = element("output", {}, "95 %");
  const slider = element("input", { type: "range", min: 0, max: charts.levels.length - 1, value: state.level });
  slider.setAttribute("aria-valuetext", "95 %");
  slider.addEventListener("input", () => {
    setLevel(Number(slider.value));
    output.textContent = `${charts.levels[state.level][0]} %`;
    slider.setAttribute("aria-valuetext", output.textContent);
  });
  figure.append(element("div", { className: "controls" }, element("label", {}, "Confidence of the intervals ", slider, " ", output)));
}

/** Print what the figures show: 95 % intervals. */
function printAsWritten() {
  const written = state.level;
  let before = written;
  addEventListener("beforeprint", () => { before = state.level; setLevel(written); });
  addEventListener("afterprint", () => setLevel(before));
}

if (table) {
  enhanceTable();
  enableTip();
  drawAll();
  if (place("parallel") && charts.axes.length) place("parallel").figure.append(element("div", { className: "controls" }, element("p", { className: "hint" }, "Drag along an axis to select trials, click on it to undo. The filters of the table of all trials do the same."), statusLine(true)));
  if (place("curves") && charts.curves.length) addSwitches();
  if (place("intervals") && charts.intervals.length) addSlider();
  updateStatus();
  printAsWritten();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  new ResizeObserver(() => {
    for (const chart of views) {
      chart.view.width(chart.container.clientWidth);
      redraw(chart);
    }
  }).observe(document.body);
}
