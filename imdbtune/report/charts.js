// The charts of a report as specifications of Vega: https://vega.github.io/vega/docs/specification/
//
// Every chart has the signals `hot`, the row of the trial that the reader points at, and `shown`,
// which has 1 for each row that the filters of the table and the brushes let through.

const charts = JSON.parse(document.getElementById("charts").textContent);
const ACCURACY = charts.label; // or another metric

/** The colours of the page, which are others in dark mode. */
function readTheme() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    ink: colour("ink"),
    soft: colour("soft"),
    line: colour("line"),
    paper: colour("paper"),
    trial: colour("trial"),
    marked: colour("vermillion"),
    series: ["blue", "vermillion", "green", "purple", "orange"].map(colour),
    isDark: matchMedia("(prefers-color-scheme: dark)").matches,
  };
}

function config(theme) {
  const text = { labelColor: theme.ink, titleColor: theme.ink, labelFontSize: 11, titleFontSize: 12 };
  return {
    background: null,
    font: "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif",
    axis: { ...text, titleFontWeight: "normal", domainColor: theme.soft, tickColor: theme.soft, gridColor: theme.line },
    legend: { ...text, title: null, orient: "bottom", direction: "horizontal", columns: 2, symbolStrokeWidth: 0 },
    title: { color: theme.ink, fontSize: 13, fontWeight: "normal", anchor: "middle" },
    text: { fill: theme.ink },
    rule: { stroke: theme.soft },
  };
}

/** Screen readers get the description, axes and table instead of every dot. */
function silent(marks) {
  return marks.map((mark) => ({ ...mark, aria: false, ...(mark.marks && { marks: silent(mark.marks) }) }));
}

function chart(title, height, parts) {
  return {
    width: 400,
    height,
    padding: 4,
    autosize: { type: "fit-x", contains: "padding" },
    title,
    ...parts,
    marks: silent(parts.marks),
    signals: [{ name: "hot", value: -1 }, { name: "shown", value: [] }, ...(parts.signals ?? [])],
  };
}

const accuracyAxis = { orient: "left", scale: "y", title: ACCURACY, grid: true, tickCount: 5, domain: false, ticks: false };
// Of a number on an axis; log scales leave labels of some ticks empty.
const PLAIN_LABEL = "datum.label === '' ? '' : abs(datum.value) < 0.001 && datum.value ? format(datum.value, '~e') : format(datum.value, ',~r')";
const isHot = "hot === datum.row";
const faded = (opacity, rest = 0.08) => `shown[datum.row] ? ${opacity} : ${rest}`;

/** Trials as dots: against a cost, over time, or by the values of a hyperparameter. */
function scatterSpec(scatter, theme) {
  const ranked = new Set(scatter.ranked);
  const points = scatter.points.map(([x, y, row], i) => ({ x, y, row, owner: scatter.owners[i], front: ranked.has(row) }));
  const steps = Object.entries(scatter.steps).flatMap(([label, line]) => line.map(([x, y]) => ({ label, x, y })));
  const medians = scatter.medians.map(([from, to, y]) => ({ from, to, y }));
  const lines = [...Object.keys(scatter.steps), ...(medians.length ? ["median"] : []), ...(scatter.level === null ? [] : ["linear model"])];
  const colours = Object.fromEntries(lines.map((label, i) => [label, theme.series[i % theme.series.length]]));
  if (medians.length) colours.median = theme.marked;
  if (scatter.level !== null) colours["linear model"] = theme.soft;
  const isNamed = scatter.labels.length > 0;
  const dots = isNamed || medians.length ? theme.series[0] : theme.trial;
  const x = isNamed
    ? { domain: [-0.6, scatter.labels.length - 0.4], zero: false }
    : { domain: { data: "points", field: "x" }, type: scatter.log ? "log" : "linear", zero: scatter.zero, nice: !scatter.log, padding: 12 };
  const xAxis = isNamed
    ? { values: scatter.labels.map((_, i) => i), encode: { labels: { update: { text: { signal: "labels[datum.value]" } } } }, labelOverlap: true, labelLimit: 90 }
    : { tickCount: 5, labelOverlap: true, labelSeparation: 8, labelFlush: true, encode: { labels: { update: { text: { signal: PLAIN_LABEL } } } } };
  const levels = scatter.level === null ? [] : [scatter.level];
  const dotLabels = scatter.owners.length ? [] : ["trial"];
  const isLeft = "scale('x', datum.x) < 30"; // no room for a label before the dot
  const dashes = lines.map((_, i) => [[1, 0], [8, 4], [2, 3]][Math.floor(i / theme.series.length) % 3]);
  const dotMarks = {
    type: "symbol",
    from: { data: "points" },
    encode: {
      enter: { x: { scale: "x", field: "x" }, y: { scale: "y", field: "y" }, cursor: { value: "pointer" } },
      update: {
        x: { scale: "x", field: "x" },
        y: { scale: "y", field: "y" },
        fill: [{ test: isHot, value: theme.marked }, { test: "datum.front", value: theme.series[0] }, ...(scatter.owners.length ? [{ scale: "series", field: "owner" }] : [{ value: dots }])],
        size: [{ test: isHot, value: 140 }, { value: 45 }],
        opacity: { signal: faded(`(${isHot} || datum.front ? 1 : 0.75)`) },
        zindex: { signal: `${isHot} ? 1 : 0` },
      },
    },
  };
  return chart(scatter.title, 240, {
    signals: [{ name: "labels", value: scatter.labels }],
    data: [
      { name: "points", values: points },
      { name: "steps", values: steps },
      { name: "medians", values: medians },
      { name: "level", values: levels.map((y) => ({ y })) },
    ],
    scales: [
      { name: "x", range: "width", ...x },
      { name: "y", range: "height", zero: false, nice: true, domain: { fields: [{ data: "points", field: "y" }, { data: "steps", field: "y" }, levels] } },
      { name: "series", type: "ordinal", domain: [...dotLabels, ...lines], range: [...dotLabels.map(() => dots), ...lines.map((label) => colours[label])] },
      { name: "dash", type: "ordinal", domain: lines, range: dashes },
    ],
    axes: [accuracyAxis, { orient: "bottom", scale: "x", title: scatter.x_title, ...xAxis }],
    legends: [{ fill: "series", encode: { symbols: { update: { shape: { signal: `datum.index < ${dotLabels.length} ? 'circle' : 'M-1.2,-.25H1.2V.25H-1.2Z'` } } } } }],
    marks: [
      { type: "rule", from: { data: "level" }, encode: { update: { y: { scale: "y", field: "y" }, x2: { signal: "width" }, strokeDash: { value: [6, 4] } } } },
      {
        type: "group",
        from: { facet: { name: "step", data: "steps", groupby: "label" } },
        marks: [{
          type: "line",
          from: { data: "step" },
          encode: { update: {
            x: { scale: "x", field: "x" }, y: { scale: "y", field: "y" },
            interpolate: { value: "step-after" }, stroke: { scale: "series", field: "label" }, strokeDash: { scale: "dash", field: "label" }, strokeWidth: { value: 2 },
          } },
        }],
      },
      dotMarks,
      {
        type: "rule",
        from: { data: "medians" },
        encode: { update: {
          x: { scale: "x", field: "from" }, x2: { scale: "x", field: "to" }, y: { scale: "y", field: "y" },
          stroke: { value: theme.marked }, strokeWidth: { value: 2.5 },
        } },
      },
      {
        type: "text",
        from: { data: "points" },
        interactive: false,
        encode: { update: {
          x: { scale: "x", field: "x" }, y: { scale: "y", field: "y" }, dx: { signal: `${isLeft} ? 5 : -5` }, dy: { value: -6 }, align: { signal: `${isLeft} ? 'left' : 'right'` },
          text: { signal: "datum.front ? '#' + (datum.row + 1) : ''" }, fontSize: { value: 11 }, opacity: { signal: faded(1) },
        } },
      },
    ],
  });
}

/** The measure of validation by epoch. The signal `on` has 1 for each row whose curve is switched on. */
function curvesSpec(colours, theme) {
  const values = charts.curves.flatMap(({ row, points }) => points.map(([epoch, y]) => ({ row, epoch, y })));
  const levels = charts.level === null ? [] : [charts.level];
  const colour = { signal: "colours[datum.row]" };
  const x = { scale: "x", field: "epoch" };
  const y = { scale: "y", field: "y" };
  const line = (update) => ({
    type: "line",
    from: { data: "curve" },
    encode: { update: { x, y, defined: { signal: "isValid(datum.y)" }, cursor: { value: "pointer" }, ...update } },
  });
  return chart("Validation by epoch", 260, {
    signals: [{ name: "on", value: [] }, { name: "colours", value: colours }, { name: "best", value: charts.curves[0].row }],
    data: [{ name: "values", values, transform: [{ type: "filter", expr: "on[datum.row] && shown[datum.row]" }] }],
    scales: [
      { name: "x", range: "width", zero: false, domain: { data: "values", field: "epoch" }, padding: 12 },
      { name: "y", range: "height", zero: false, nice: true, domain: { fields: [{ data: "values", field: "y" }, levels] } },
    ],
    axes: [accuracyAxis, { orient: "bottom", scale: "x", title: "epoch", format: "d", tickMinStep: 1 }],
    marks: [
      ...levels.map((level) => ({
        type: "rule",
        encode: { update: { y: { scale: "y", value: level }, x2: { signal: "width" }, strokeDash: { value: [6, 4] } } },
      })),
      {
        type: "group",
        from: { facet: { name: "curve", data: "values", groupby: "row" } },
        encode: { update: { zindex: { signal: `${isHot} ? 2 : datum.row === best ? 1 : 0` } } },
        marks: [
          line({
            stroke: [{ test: isHot, value: theme.ink }, colour],
            strokeWidth: [{ test: `${isHot} || datum.row === best`, value: 3 }, { value: 1.5 }],
          }),
          line({ stroke: { value: "transparent" }, strokeWidth: { value: 12 } }), // easier to point at
          {
            type: "symbol",
            from: { data: "curve" },
            encode: { update: {
              x, y, size: { signal: "isValid(datum.y) ? 22 : 0" }, cursor: { value: "pointer" },
              fill: [{ test: isHot, value: theme.ink }, colour],
            } },
          },
        ],
      },
    ],
  });
}

/** The best accuracies with intervals; the signal `z` is their half width in standard errors. */
function intervalsSpec(intervals, theme) {
  const ends = (sign) => ({ scale: "x", signal: `datum.accuracy ${sign} z * datum.error` });
  const y = { scale: "y", field: "row", band: 0.5 };
  const colour = [{ test: "datum.row === 0", value: theme.marked }, { value: theme.series[0] }];
  const width = { signal: `${isHot} ? 4 : 2` };
  return chart("The best trials with their intervals", 26 * intervals.length + 20, {
    signals: [{ name: "z", value: 1.96 }, { name: "level", value: "95" }, { name: "label", value: ACCURACY }],
    data: [{
      name: "values",
      values: intervals,
      transform: [
        { type: "formula", as: "low", expr: "datum.accuracy - z * datum.error" },
        { type: "formula", as: "high", expr: "datum.accuracy + z * datum.error" },
      ],
    }],
    scales: [
      { name: "x", range: "width", zero: false, nice: true, domain: { data: "values", fields: ["low", "high"] } },
      { name: "y", type: "band", range: "height", domain: intervals.map(({ row }) => row) },
    ],
    axes: [
      { orient: "bottom", scale: "x", grid: true, tickCount: 5, title: { signal: "label + ', ' + level + ' % interval'" } },
      { orient: "left", scale: "y", domain: false, ticks: false, encode: { labels: { update: { text: { signal: "'#' + (datum.value + 1)" } } } } },
    ],
    marks: [
      { type: "rule", from: { data: "values" }, encode: { update: { x: ends("-"), x2: ends("+"), y, stroke: colour, strokeWidth: width, cursor: { value: "pointer" } } } },
      { type: "symbol", from: { data: "values" }, encode: { update: { x: { scale: "x", field: "accuracy" }, y, fill: colour, size: { value: 60 }, cursor: { value: "pointer" } } } },
    ],
  });
}

const PARALLEL_HEIGHT = 280;

/**
 * Parallel coordinates. Dragging along axis k sets the signal `brush_k` to the two ends of the
 * brush, in pixels from the top; a click on the axis removes the brush.
 */
function parallelSpec(axes, accuracies, theme) {
  const last = axes.length - 1;
  const count = accuracies.length;
  const opacity = count > 300 ? 0.35 : 0.8;
  // Lines of the same values do not cover each other.
  const shifts = accuracies.map((_, row) => (((row * 0.61803) % 1) - 0.5) * (count > 1 ? 0.04 : 0));
  const lines = accuracies.map((accuracy, row) => ({
    row, accuracy, at: axes.map((axis, k) => axis.positions[row] + (k === last ? 0 : shifts[row])),
  }));
  const across = (k) => `(${k} * width / ${last})`;
  const path = axes.map((_, k) => `'${k ? "L" : "M"}' + ${across(k)} + ',' + (1 - datum.at[${k}]) * height`).join(" + ");
  const shape = (update) => ({ type: "path", from: { data: "lines" }, encode: { update: { path: { field: "path" }, cursor: { value: "pointer" }, ...update } } });
  const brushed = (k) => `brush_${k} ? brush_${k}`;
  return chart({ text: "Trials by their hyperparameters", offset: 24 }, PARALLEL_HEIGHT, {
    padding: { left: 12, right: 44, top: 4, bottom: 8 },
    signals: axes.map((_, k) => ({
      name: `brush_${k}`,
      value: null,
      on: [
        { events: `@axis_${k}:pointerdown`, update: "[clamp(y(), 0, height), clamp(y(), 0, height)]" },
        { events: `[@axis_${k}:pointerdown, window:pointerup] > window:pointermove!`, update: `[brush_${k}[0], clamp(y(), 0, height)]` },
        { events: "window:pointerup", update: `brush_${k} && abs(brush_${k}[0] - brush_${k}[1]) < 4 ? null : brush_${k}` },
      ],
    })),
    data: [
      { name: "lines", values: lines, transform: [{ type: "formula", as: "path", expr: path }] },
      { name: "names", values: axes.map(({ name }, k) => ({ k, name })) },
      { name: "ticks", values: axes.flatMap(({ ticks }, k) => ticks.map(([at, label]) => ({ k, at, label }))) },
    ],
    scales: [{ name: "colour", domain: { data: "lines", field: "accuracy" }, range: { scheme: "cividis", extent: theme.isDark ? [0.25, 1] : [0, 0.8] }, reverse: !theme.isDark }],
    marks: [
      shape({
        stroke: [{ test: isHot, value: theme.marked }, { scale: "colour", field: "accuracy" }],
        strokeWidth: { signal: `${isHot} ? 4 : datum.row === 0 ? 3 : 1.5` },
        opacity: { signal: faded(`(${isHot} ? 1 : ${opacity})`, count > 300 ? 0.02 : 0.08) },
        zindex: { signal: `${isHot} ? 2 : shown[datum.row] ? 1 : 0` },
      }),
      shape({ stroke: { value: "transparent" }, strokeWidth: { signal: "shown[datum.row] ? 9 : 0" } }), // easier to point at
      ...axes.map((_, k) => ({
        type: "rule",
        interactive: false,
        encode: { update: { x: { signal: across(k) }, y2: { signal: "height" }, stroke: { value: theme.ink } } },
      })),
      {
        type: "text",
        from: { data: "ticks" },
        interactive: false,
        encode: { update: {
          x: { signal: `datum.k * width / ${last}`, offset: 5 }, y: { signal: "(1 - datum.at) * height" }, text: { field: "label" },
          baseline: { value: "middle" }, fontSize: { value: 11 }, stroke: { value: theme.paper }, strokeWidth: { value: 3 }, strokeOpacity: { value: 0.85 },
        } },
      },
      {
        type: "text",
        from: { data: "ticks" },
        interactive: false,
        encode: { update: {
          x: { signal: `datum.k * width / ${last}`, offset: 5 }, y: { signal: "(1 - datum.at) * height" }, text: { field: "label" },
          baseline: { value: "middle" }, fontSize: { value: 11 },
        } },
      },
      {
        type: "text",
        from: { data: "names" },
        interactive: false,
        encode: { update: {
          x: { signal: `datum.k * width / ${last}` }, y: { value: -10 }, text: { field: "name" }, fontWeight: { value: "bold" },
          align: { signal: `datum.k ? 'center' : 'left'` }, fontSize: { value: 11 }, limit: { signal: `width / ${last} - 4` }, dx: { signal: "datum.k ? 0 : -10" },
        } },
      },
      ...axes.flatMap((_, k) => [
        {
          type: "rect",
          interactive: false,
          encode: { update: {
            x: { signal: `${across(k)} - 7` }, width: { value: 14 },
            y: { signal: `${brushed(k)}[0] : 0` }, y2: { signal: `${brushed(k)}[1] : 0` },
            fill: { value: theme.marked }, fillOpacity: { signal: `brush_${k} ? 0.3 : 0` }, stroke: { value: theme.marked }, strokeOpacity: { signal: `brush_${k} ? 1 : 0` },
          } },
        },
        {
          type: "rect",
          name: `axis_${k}`,
          encode: { update: {
            x: { signal: `${across(k)} - 11` }, width: { value: 22 }, y: { value: -6 }, y2: { signal: "height + 6" },
            fill: { value: "transparent" }, cursor: { value: "ns-resize" },
          } },
        },
      ]),
    ],
  });
}
