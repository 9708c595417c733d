// The results of recipes and ablations, and the jobs that failed.
const byName = new Map(data.jobs.map(job => [job.name, job]));
const flat = value => (value !== null && typeof value === "object" ? JSON.stringify(value, (_, v) => (known(v) ? Number(v.toPrecision(4)) : v)) : shown(value));

function evidence(value) {
  if (value === null || value === undefined || value === "") return null;
  if (typeof value !== "object") return make("p", {}, shown(value));
  const rows = Array.isArray(value) ? value.map((v, i) => [String(i + 1), v]) : Object.entries(value);
  return make("div", { class: "scroll" }, make("table", {}, make("tbody", {}, rows.map(([name, v]) => make("tr", {}, make("th", { scope: "row" }, name.includes(".") ? name : words(name)), make("td", { class: "wrap" }, flat(v)))))));
}

// A curve: pairs of numbers, or {x: [...], y: [...], x_label, y_label}.
function curveOf(gate) {
  const curve = gate.curve;
  if (!curve) return null;
  const points = (Array.isArray(curve) ? curve : (curve.x || []).map((x, i) => [x, (curve.y || [])[i]])).filter(p => Array.isArray(p) && known(p[0]) && known(p[1]));
  if (points.length < 2) return null;
  const xs = points.map(p => p[0]);
  const isLog = Math.min(...xs) > 0 && Math.max(...xs) / Math.min(...xs) > 50 && !/update|epoch|step/.test(curve.x_label ?? "");
  const ys = points.map(p => p[1]), most = 1.6 * Math.max(Math.abs(ys[0]), Math.abs([...ys].sort((a, b) => a - b)[ys.length >> 1]));
  const cut = Math.max(...ys) > 2 * most ? ys.filter(v => v <= most) : ys; // losses at rates that are too high are cut off
  const host = make("div");
  picture(host, width => {
    const drawn = Math.min(width, 544);
    const { svg, sx, sy, box } = frame(drawn, 220, { domain: [Math.min(...xs), Math.max(...xs)], log: isLog, label: String(curve.x_label ?? "x") }, { domain: extent(cut, false), log: false }, `${gate.name}: ${curve.y_label ?? "curve"}`);
    svg.append(draw("path", { class: "line top", stroke: "var(--accent)", d: `M${points.map(p => `${sx(p[0]).toFixed(1)} ${Math.max(sy(p[1]), box.top - 8).toFixed(1)}`).join("L")}` }));
    return svg;
  });
  return make("div", {}, curve.y_label ? make("p", { class: "soft small" }, String(curve.y_label)) : null, host);
}

function recipeSection() {
  if (!data.recipe) return null;
  const gates = data.recipe.map(gate => {
    const verdict = String(gate.verdict ?? ""), isBad = /fail|stop|refus|bad/i.test(verdict), isGood = /pass|ok|good|done|true/i.test(verdict);
    const jobs = (gate.jobs || []).map(n => byName.get(String(n)) || { name: String(n) });
    return make("li", { class: isBad ? "bad" : isGood ? "good" : null },
      make("h3", {}, `${gate.step ?? ""} ${gate.name ?? ""} `.trim(), " ", make("span", { class: `badge ${isBad ? "failed" : isGood ? "passed" : "unclear"}` }, verdict || "open")),
      gate.reason ? make("p", {}, String(gate.reason)) : null, evidence(gate.evidence), curveOf(gate),
      gate.advice ? make("p", {}, make("b", {}, "Advice: "), flat(gate.advice)) : null,
      jobs.length ? make("details", {}, make("summary", {}, jobs.length > 1 ? `${jobs.length} jobs` : "1 job"), jobs.flatMap(job => [link(job), " "])) : null);
  });
  return section("recipe", "Recipe", make("ol", { class: "gates" }, gates));
}

function ablationSection() {
  const found = data.ablation;
  if (!found || !Array.isArray(found.arms)) return null;
  const arms = found.arms.filter(arm => arm.name !== found.baseline || known(arm.difference)), compared = arms.filter(arm => known(arm.difference));
  const how = compared.some(arm => arm.control !== undefined) ? "with minus without" : `arm minus ${found.baseline}`;
  const host = make("div");
  const ends = arm => (Array.isArray(arm.difference_interval) ? arm.difference_interval.filter(known) : []);
  if (compared.length) picture(host, width => {
    const left = Math.min(150, width * 0.36), height = compared.length * 30 + 56;
    const domain = extent([0, ...compared.flatMap(arm => [arm.difference, ...ends(arm)])], false), x = scale(domain, [left, width - 12], false);
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Differences of ${compared.length} arms, ${how}, with intervals; the table below has the figures` });
    for (const v of ticks(domain, false, width < 420 ? 3 : 6)) svg.append(draw("line", { class: "gridline", x1: x(v), x2: x(v), y1: 8, y2: height - 40 }), draw("text", { x: x(v), y: height - 24, "text-anchor": "middle" }, tickText(v)));
    svg.append(draw("line", { class: "zero", x1: x(0), x2: x(0), y1: 8, y2: height - 40 }));
    compared.forEach((arm, i) => {
      const y = 24 + i * 30, [low, high] = ends(arm), tone = { helps: "var(--mark)", hurts: "var(--fail)" }[arm.verdict_of_all ?? arm.verdict] || "var(--soft)";
      const label = draw("text", { x: left - 10, y: y + 4, "text-anchor": "end" }, clip(String(arm.name), Math.floor(left / 7)), draw("title", {}, String(arm.name)));
      svg.append(label);
      if (known(low) && known(high)) svg.append(draw("path", { class: "end", stroke: tone, d: `M${x(low)} ${y - 5}v10m0 -5H${x(high)}m0 -5v10` }));
      svg.append(draw("rect", { x: x(arm.difference) - 5, y: y - 5, width: 10, height: 10, fill: tone }));
    });
    svg.append(draw("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, `difference of ${found.metric}: ${how}`));
    return svg;
  });
  const range = pair => (Array.isArray(pair) && known(pair[0]) && known(pair[1]) ? `${shown(pair[0])} to ${shown(pair[1])}` : "–");
  const level = `${known(found.level) ? Number((found.level * 100).toFixed(1)) : 95} % interval`;
  const heads = ["arm", "runs", "mean", level, "difference", level, "cost", `verdict, corrected for ${compared.length}`, "verdict, uncorrected", "seeds to settle it"];
  const rows = found.arms.map(arm => make("tr", { class: arm.name === found.baseline && "best" }, make("td", {}, String(arm.name), arm.control !== undefined ? make("div", { class: "small soft" }, `${arm.treated} against ${arm.control}`) : null), make("td", { class: "number" }, shown(arm.n), arm.lost ? ` (${arm.lost} lost)` : null), make("td", { class: "number" }, shown(arm.mean)), make("td", {}, range(arm.interval)),
    make("td", { class: "number" }, known(arm.difference) ? (arm.difference > 0 ? "+" : "") + shown(arm.difference) : "–"), make("td", {}, range(arm.difference_interval)), make("td", { class: "number" }, known(arm.cost_ratio) ? `×${arm.cost_ratio.toFixed(2)}` : "–"),
    make("td", {}, arm.verdict_of_all ? badge(String(arm.verdict_of_all)) : "–", known(arm.p_holm) ? make("div", { class: "small soft" }, `p ${shown(arm.p_holm)}`) : null), make("td", {}, arm.verdict ? badge(String(arm.verdict)) : arm.name === found.baseline ? "baseline" : "–"), make("td", { class: "number" }, arm.seeds_to_settle === null || arm.seeds_to_settle === undefined ? "–" : shown(arm.seeds_to_settle))));
  return section("ablation", "Ablation", make("p", { class: "soft small" }, `${found.metric}, ${String(found.direction).startsWith("max") ? "more" : "less"} is better; the difference is ${how}, paired seed by seed. ${found.chosen_by ? `${found.chosen_by} chose the epochs and the retuned settings. ` : ""}An interval that crosses zero is no evidence at this number of seeds. Each interval is for one comparison alone; the corrected verdict accounts for the number of comparisons (Holm).`), host,
    make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Arms, scrolls sideways" }, make("table", {}, make("thead", {}, make("tr", {}, heads.map(h => make("th", { scope: "col" }, h)))), make("tbody", {}, rows))),
    (found.rounds || []).length ? make("details", {}, make("summary", {}, "Rounds of the selection"), evidence(found.rounds)) : null);
}
