// A range dragged over the parallel coordinates keeps the configurations in it, in the figure and in the leaderboard.
const kept = { rows: null, listeners: [] }; // rows: of the kept configurations, null for all

function keep(rows) {
  kept.rows = rows;
  for (const listener of kept.listeners) listener();
}

function brushing() {
  const div = document.querySelector("#parallel .chart");
  if (!div) return;
  const whole = Charts.figure(div);
  const places = new Map(); // of each configuration: its place on every axis
  for (const trace of whole.data)
    trace.customdata.forEach((row, k) => { if (row >= 0) places.set(row, [...(places.get(row) || []), trace.y[k]]); });

  // The ranges of an axis are alternatives; every axis with one has to be met.
  function inside(ranges) {
    return new Set([...places].filter(([, at]) => [...ranges].every(([axis, spans]) => spans.some(([low, high]) => at[axis] !== null && at[axis] >= low && at[axis] <= high))).map(([row]) => row));
  }
  function rangesOf(selections) {
    const ranges = new Map();
    for (const box of selections) {
      const [left, right] = [Math.min(box.x0, box.x1), Math.max(box.x0, box.x1)], span = [Math.min(box.y0, box.y1), Math.max(box.y0, box.y1)];
      const count = whole.layout.shapes.length;
      for (let axis = Math.max(0, Math.ceil(left)); axis <= Math.min(count - 1, Math.floor(right)); axis++) ranges.set(axis, [...(ranges.get(axis) || []), span]);
    }
    return ranges;
  }
  function faded(rows) {
    const lines = whole.data.map(trace => part(trace, row => rows.has(row)));
    const rest = whole.data.map(trace => part(trace, row => !rows.has(row)));
    const grey = { ...whole.data[0], opacity: 0.15, line: { width: 1, color: "#8b949e" }, mode: "lines", hoverinfo: "skip", hovertemplate: undefined };
    for (const key of ["x", "y", "text", "customdata"]) grey[key] = rest.flatMap(trace => trace[key]);
    return [grey, ...lines];
  }
  // A gap has the customdata -1 and belongs to the line before it.
  function part(trace, wanted) {
    let on = false;
    const marks = trace.customdata.map(row => (row >= 0 ? (on = wanted(row)) : on));
    return Object.fromEntries(Object.entries(trace).map(([key, value]) => [key, ["x", "y", "text", "customdata"].includes(key) ? value.filter((_, k) => marks[k]) : value]));
  }
  function show(selections) {
    const ranges = rangesOf(selections || []);
    const rows = ranges.size ? inside(ranges) : null;
    keep(rows);
    return Charts.draw(div, { data: rows ? faded(rows) : whole.data, layout: { ...whole.layout, selections: ranges.size ? selections : [] } });
  }
  div.on("plotly_selected", event => { if (event) show(event.selections); });
  div.on("plotly_deselect", () => show([]));
  kept.clear = () => show([]);
}

function whenDrawn(then) {
  const root = document.documentElement;
  if (root.dataset.drawn) then();
  else new MutationObserver((_, observer) => { if (root.dataset.drawn) { observer.disconnect(); then(); } }).observe(root, { attributes: true });
}
