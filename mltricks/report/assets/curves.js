// Learning curves: one line per job, coloured by rank.
const KINDS = { score: data.objective.name, val: "validation loss", train: "training loss" };

function learningCurves() {
  const kinds = Object.keys(KINDS).filter(kind => data.jobs.some(job => job.curves[kind].length) && !(kind === "val" && data.objective.name === "val/loss"));
  if (!kinds.length) return null;
  let kind = kinds[0];
  const host = make("div"), readout = make("output", { class: "readout" }, "Point at a curve, or step to it with the tab and arrow keys.");
  const log = make("input", { type: "checkbox", onchange: () => again() }), onlyBest = make("input", { type: "checkbox", onchange: () => again() });
  const choice = make("select", { id: "curve", onchange: event => { kind = event.target.value; again(); } }, kinds.map(k => make("option", { value: k }, KINDS[k])));

  function paint(width) {
    let jobs = data.jobs.map((job, i) => i).filter(i => data.jobs[i].curves[kind].length).sort((a, b) => (shares.get(b) ?? -1) - (shares.get(a) ?? -1));
    if (onlyBest.checked) jobs = jobs.slice(0, 10);
    const values = jobs.flatMap(i => data.jobs[i].curves[kind].map(p => p[1])).sort((a, b) => a - b);
    const most = values[Math.floor(values.length * 0.95)];
    const isCut = kind !== "score" && !log.checked && values[values.length - 1] > 4 * most && most > 0;
    const xs = jobs.flatMap(i => data.jobs[i].curves[kind].map(p => p[0]));
    const y = { domain: extent(isCut ? values.filter(v => v <= most) : values, log.checked), log: log.checked };
    const [first, last] = [Math.min(...xs), Math.max(...xs)];
    const x = { domain: [first < last ? first : first - 0.5, first < last ? last : last + 0.5], log: false, label: "epoch" };
    const { svg, sx, sy, box } = frame(width, Math.min(420, Math.max(240, width * 0.5)), x, y, `${KINDS[kind]} by epoch; ${jobs.length} curves`);
    svg.append(draw("clipPath", { id: "inside" }, draw("rect", { x: box.left, y: box.top - 6, width: box.right - box.left + 6, height: box.bottom - box.top + 6 })));
    const layer = draw("g", { "clip-path": "url(#inside)" }), marks = [], lines = [];
    for (const i of jobs) {
      const job = data.jobs[i], points = job.curves[kind].filter(p => !log.checked || p[1] > 0);
      if (!points.length) continue;
      const at = points.map(p => `${sx(p[0]).toFixed(1)} ${sy(p[1]).toFixed(1)}`);
      const path = `M${at.join("L")}`, [endX, endY] = at[at.length - 1].split(" ").map(Number);
      const line = draw("path", { class: `line ${job.status} ${bestJobs.has(i) ? "top" : ""}`, d: path, stroke: colourOf(i) });
      const end = ["diverged", "failed"].includes(job.status) ? draw("path", { class: "end", d: `M${endX - 4} ${endY - 4}l8 8m0 -8l-8 8`, stroke: "var(--fail)" })
        : PARTIAL.includes(job.status) ? draw("path", { class: "end", d: `M${endX} ${endY - 5}v10`, stroke: colourOf(i) })
        : draw("circle", { class: "dot", cx: endX, cy: endY, r: 2.4, fill: colourOf(i) });
      const mark = draw("g", { role: "img", "aria-label": describe(job) }, line, draw("path", { class: "hit", d: path }), end);
      marks.push(mark);
      lines.push([line, job]);
    }
    layer.append(...[...marks].reverse()); // the best on top
    svg.append(layer);
    roving(marks, i => {
      lines.forEach(([line], k) => { line.classList.toggle("on", k === i); line.classList.toggle("faded", i !== null && k !== i); });
      if (i === null) return;
      const curve = lines[i][1].curves[kind], last = curve[curve.length - 1];
      readout.textContent = `${describe(lines[i][1])}  ${KINDS[kind]} ${shown(last[1])} at epoch ${shown(last[0], 1)}`;
    });
    note.textContent = isCut ? "The largest losses are cut off; a logarithmic axis shows them." : "";
    return svg;
  }
  const note = make("p", { class: "soft small", role: "status" }), again = picture(host, paint);
  return section("curves", "Learning curves",
    make("div", { class: "controls" }, make("label", { for: "curve" }, "Show"), choice, make("label", {}, log, "logarithmic"), make("label", {}, onlyBest, "the 10 best only"), scaleKey()),
    host, note, readout, make("p", { class: "soft small" }, "Thick: the best configuration. Dashed, ending in a bar: pruned, interrupted or unfinished. A cross: diverged or failed."));
}

function scaleKey() {
  const stops = [0, 0.5, 1].map(share => colour(share)).join(", "), bar = make("span", { "aria-hidden": "true" });
  Object.assign(bar.style, { display: "inline-block", width: "4rem", height: "0.6rem", borderRadius: "3px", background: `linear-gradient(90deg, ${stops})` });
  return make("span", { class: "soft" }, "worst ", bar, " best");
}
