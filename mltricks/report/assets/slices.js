// The importance of each key, and the objective against each key.
function importanceSection() {
  const found = data.importance;
  if (!data.axes.length || data.jobs.length < 2) return null;
  if (!found) return section("importance", "Importance", make("p", { class: "soft" }, "Fewer than 20 jobs have a result, or all results are equal: too little to estimate the importance."));
  const most = Math.max(...found.shares.map(s => s[1]), 1e-9);
  const rows = found.shares.flatMap(([key, share]) => {
    const bar = make("i");
    bar.style.width = `${Math.max(share, 0) / most * 100}%`;
    const seed = data.axes.find(axis => axis.key === key).seed;
    return [make("span", {}, key, seed ? " (noise)" : ""), make("div", { class: "bar", "aria-hidden": "true" }, bar), make("span", {}, share.toFixed(3))];
  });
  return section("importance", "Importance", make("div", { class: "importance" }, rows),
    make("p", { class: "soft small" }, `Share of the variance of ${data.objective.name} that is due to each key, alone and with others: what a random forest loses, on jobs it has not seen, when the key is shuffled. It predicts ${(Math.max(found.explained, 0) * 100).toFixed(0)} % of the variance; n = ${found.n} jobs. ${found.note}`));
}

function slice(axis) {
  const jobs = data.jobs.map((job, i) => i).filter(i => data.jobs[i].value !== null && axis.numbers[i] !== null);
  const host = make("div"), readout = make("output", { class: "readout" });
  const names = axis.kind === "category" ? axis.names : null;
  picture(host, width => {
    const ys = jobs.map(i => data.jobs[i].value);
    const x = { domain: names ? [-0.5, names.length - 0.5] : extent(jobs.map(i => axis.numbers[i]), axis.log), log: axis.log, label: axis.key, names };
    const { svg, sx, sy } = frame(width, 220, x, { domain: extent(ys, false), log: false }, `${data.objective.name} against ${axis.key}`);
    const sorted = [...jobs].sort((a, b) => axis.numbers[a] - axis.numbers[b] || data.jobs[a].value - data.jobs[b].value);
    const dots = sorted.map(i => draw("circle", { class: `dot ${bestJobs.has(i) ? "top" : ""}`, cx: sx(axis.numbers[i]), cy: sy(data.jobs[i].value), r: bestJobs.has(i) ? 6 : 4,
      fill: PARTIAL.includes(data.jobs[i].status) ? "none" : colourOf(i), stroke: PARTIAL.includes(data.jobs[i].status) ? colourOf(i) : null, role: "img", "aria-label": describe(data.jobs[i]) }));
    svg.append(...[...dots].sort((a, b) => a.classList.contains("top") - b.classList.contains("top")));
    roving(dots, i => {
      dots.forEach((dot, k) => dot.classList.toggle("on", k === i));
      if (i !== null) readout.textContent = describe(data.jobs[sorted[i]]);
    });
    return svg;
  });
  const edge = data.edges.find(e => e.key === axis.key);
  return make("div", {}, make("h3", {}, axis.key), host,
    edge ? make("div", { class: "edge" }, make("p", {}, edge.text), command(edge.override, `the next range of ${axis.key}`)) : null, readout);
}

function slicesSection() {
  const axes = data.axes.filter(axis => !axis.seed);
  if (!axes.length || !data.jobs.some(job => job.value !== null)) return null;
  return section("slices", "Slices", make("p", { class: "soft small" }, `${data.objective.name} of every job against each key. Ringed: the best configuration. Hollow: pruned, interrupted or unfinished.`), make("div", { class: "slices" }, axes.map(slice)));
}
