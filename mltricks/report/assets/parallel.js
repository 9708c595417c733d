// Parallel coordinates: one axis per swept key, the objective last; ranges are typed, or chosen for categories.
function parallel() {
  const goal = { key: data.objective.name, kind: "number", log: false, numbers: data.jobs.map(job => job.value), names: [], objective: true };
  const axes = [...data.axes.filter(axis => !axis.seed), goal];
  const jobs = data.jobs.map((job, i) => i).filter(i => data.jobs[i].value !== null).sort((a, b) => shares.get(a) - shares.get(b));
  if (axes.length < 2 || jobs.length < 2) return null;
  const ranges = axes.map(axis => ({ low: -Infinity, high: Infinity, off: new Set() }));
  const host = make("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Parallel coordinates, scrolls sideways" });
  const count = make("span", { role: "status", class: "soft" }), readout = make("output", { class: "readout" });
  const inside = i => axes.every((axis, k) => {
    const v = axis.numbers[i], r = ranges[k];
    return axis.kind === "category" ? !r.off.has(v) : v === null ? r.low === -Infinity && r.high === Infinity : v >= r.low && v <= r.high;
  });
  let marks = [];
  function brush() {
    for (const [i, line] of marks) line.classList.toggle("faded", !inside(i));
    count.textContent = `${jobs.filter(inside).length} of ${jobs.length} jobs in these ranges`;
  }
  function paint(width) {
    const wide = Math.max(width, axes.length * 105), height = 320, top = 44, bottom = height - 20;
    const x = k => 56 + k * (wide - 112) / (axes.length - 1);
    const svg = draw("svg", { viewBox: `0 0 ${wide} ${height}`, role: "group", "aria-label": `Parallel coordinates of ${jobs.length} jobs` });
    svg.style.width = `${wide}px`;
    const places = axes.map(axis => {
      const domain = axis.kind === "category" ? [-0.3, axis.names.length - 0.7] : extent(jobs.map(i => axis.numbers[i]), axis.log);
      const y = scale(domain, [bottom, top], axis.log);
      return { domain, y: v => (v === null ? height - 6 : y(v)) };
    });
    const layer = draw("g");
    marks = jobs.map(i => {
      const points = axes.map((axis, k) => `${x(k).toFixed(1)} ${places[k].y(axis.numbers[i]).toFixed(1)}`);
      const line = draw("path", { class: `line ${data.jobs[i].status} ${bestJobs.has(i) ? "top" : ""}`, d: `M${points.join("L")}`, stroke: colourOf(i) });
      layer.append(draw("g", { role: "img", "aria-label": describe(data.jobs[i]) }, line, draw("path", { class: "hit", d: `M${points.join("L")}` })));
      return [i, line];
    });
    svg.append(layer);
    axes.forEach((axis, k) => {
      const name = draw("text", { class: "name", x: x(k), y: k % 2 && axes.length > 5 ? 28 : 14, "text-anchor": "middle" }, clip(axis.key, 20), draw("title", {}, axis.key));
      svg.append(name, draw("line", { class: "axis", x1: x(k), x2: x(k), y1: top, y2: bottom }));
      const marked = axis.kind === "category" ? axis.names.map((text, v) => [v, clip(text || "(none)", 14)]) : ticks(places[k].domain, axis.log).map(v => [v, tickText(v)]);
      const last = k === axes.length - 1;
      for (const [v, text] of marked) svg.append(draw("text", { x: x(k) + (last ? 6 : -6), y: places[k].y(v) + 4, "text-anchor": last ? "start" : "end" }, text));
    });
    const groups = [...layer.children].reverse(), numbers = [...jobs].reverse(), lines = new Map(marks);
    roving(groups, at => {
      for (const [i, line] of marks) line.classList.toggle("on", at !== null && i === numbers[at]);
      if (at !== null) { readout.textContent = describe(data.jobs[numbers[at]]); lines.get(numbers[at]).parentNode.parentNode.append(groups[at]); }
    });
    brush();
    return svg;
  }
  const field = (axis, k) => {
    if (axis.kind === "category") {
      const boxes = axis.names.map((name, v) => make("label", {}, make("input", { type: "checkbox", checked: true, onchange: event => { ranges[k].off[event.target.checked ? "delete" : "add"](v); brush(); } }), name || "(none)"));
      return make("fieldset", {}, make("legend", {}, axis.key), boxes);
    }
    const typed = (end, text, none) => make("label", {}, text, make("input", { type: "number", step: "any", "aria-label": `${text} of ${axis.key}`, oninput: event => { ranges[k][end] = event.target.value === "" ? none : Number(event.target.value); brush(); } }));
    return make("fieldset", {}, make("legend", {}, axis.key), typed("low", "min", -Infinity), typed("high", "max", Infinity));
  };
  picture(host, paint);
  return section("parallel", "Parallel coordinates", make("div", { class: "controls" }, scaleKey(), count), host, readout,
    make("details", {}, make("summary", {}, "Narrow the ranges"), make("div", { class: "brushes" }, axes.map(field))));
}
