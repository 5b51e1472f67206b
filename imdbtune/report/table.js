// The table: sorted by its headings, filtered by a row of inputs.

/** Return the value of a cell to sort and filter by: a number if it is one, else its text. */
function valueOf(cell) {
  const text = cell.textContent.trim();
  const number = Number(text.replace(/,|\s?%?( ±.*)?$/g, ""));
  return text === "" || Number.isNaN(number) ? text.toLowerCase() : number;
}

function compare(a, b, direction) {
  if (a === b) return 0;
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1; // what has no number comes last
  return a < b ? -direction : direction;
}

function sortBy(column) {
  const heading = headings[column];
  const isDescending = heading.getAttribute("aria-sort") === "ascending";
  for (const each of headings) each.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
  const keys = new Map(rows.map((row) => [row, valueOf(row.cells[column])]));
  const ordered = [...rows].sort((a, b) => compare(keys.get(a), keys.get(b), isDescending ? -1 : 1));
  table.tBodies[0].append(...ordered);
}

/** Return whether a value meets one of the conditions of a filter: "gru, lstm", "16..64", ">=0.5". */
function matches(value, filter) {
  return filter.split(",").map((part) => part.trim()).filter(Boolean).some((part) => {
    const range = part.match(/^(\S+?)\s*\.\.\s*(\S+)$/);
    const limit = part.match(/^(<=|>=|<|>|=)\s*(\S+)$/);
    if (range) return value >= Number(range[1]) && value <= Number(range[2]);
    if (!limit) return typeof value === "number" ? value === Number(part) : value.includes(part.toLowerCase());
    if (typeof value !== "number") return limit[1] === "=" && value === limit[2].toLowerCase();
    const than = Number(limit[2]);
    return { "<": value < than, "<=": value <= than, ">": value > than, ">=": value >= than, "=": value === than }[limit[1]];
  });
}

function enhanceTable() {
  const inputs = headings.map((heading, column) => {
    const name = heading.textContent;
    const button = element("button", { type: "button", className: "sort", onclick: () => sortBy(column) }, name);
    heading.replaceChildren(button);
    const input = element("input", { type: "text", size: 5, oninput: applyFilters, autocomplete: "off", spellcheck: false });
    input.setAttribute("aria-label", `Filter by ${name}`);
    return input;
  });
  const filters = element("tr", { className: "filters" }, ...inputs.map((input) => element("td", {}, input)));
  table.tHead.append(filters);
  const hint = element("p", { className: "hint" }, "Click a heading to sort. Filter by a text, a number, a range such as 16..64, a limit such as >=0.5, or several with commas.");
  table.closest(".scroll").before(element("div", { className: "controls" }, hint, statusLine(!charts.axes.length)));
  rows.forEach((row, index) => {
    row.addEventListener("pointerenter", () => setSignal("hot", index));
    row.addEventListener("pointerleave", () => setSignal("hot", -1));
    row.addEventListener("focusin", () => setSignal("hot", index));
    row.addEventListener("focusout", () => setSignal("hot", -1));
  });
}

function applyFilters() {
  const inputs = [...table.querySelectorAll(".filters input")];
  const filters = inputs.map((input, column) => [column, input.value.trim()]).filter(([, filter]) => filter);
  state.shown = rows.map((row, index) => {
    const isThrough = filters.every(([column, filter]) => matches(valueOf(row.cells[column]), filter));
    return isThrough && charts.axes.every((axis, k) => isInBrush(k, axis.positions[index])) ? 1 : 0;
  });
  rows.forEach((row, index) => row.classList.toggle("filtered", !state.shown[index]));
  setSignal("shown", state.shown);
  updateStatus();
}

/** Return whether the brush on axis k, if there is one, covers a position from 0 to 1. */
function isInBrush(k, position) {
  if (!state.brushes[k]) return true;
  const [low, high] = state.brushes[k].map((pixels) => 1 - pixels / PARALLEL_HEIGHT).sort((a, b) => a - b);
  const slack = k === charts.axes.length - 1 ? 0.005 : 0.03; // lines are drawn up to 0.02 apart, but not here
  return position >= low - slack && position <= high + slack;
}

function statusLine(isLive) {
  const text = element("span");
  if (isLive) text.setAttribute("role", "status");
  const reset = element("button", { type: "button", onclick: resetFilters }, "Show all");
  statuses.push({ text, reset });
  return element("p", { className: "status" }, text, " ", reset);
}

function updateStatus() {
  const count = state.shown.reduce((sum, each) => sum + each, 0);
  for (const { text, reset } of statuses) {
    text.textContent = `${count} of ${rows.length} trials shown.`;
    reset.hidden = count === rows.length && state.brushes.every((brush) => !brush);
  }
}

function resetFilters() {
  for (const input of table.querySelectorAll(".filters input")) input.value = "";
  state.brushes.forEach((_, k) => setSignal(`brush_${k}`, null));
  state.brushes.fill(null);
  applyFilters();
}
