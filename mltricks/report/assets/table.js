// The leaderboard: configurations, the best first; sorted by any column, filtered by text and by status.
const keys = data.axes.filter(axis => !axis.seed).map(axis => axis.key);

function statuses(group) {
  const counts = {};
  for (const i of group.rows) counts[data.jobs[i].status] = (counts[data.jobs[i].status] || 0) + 1;
  return counts;
}
const numberOf = text => (text !== "" && Number.isFinite(Number(text)) ? Number(text) : text);
const whisker = (() => {
  const ends = data.groups.flatMap(g => [g.mean, ...(g.interval || [])]).filter(known);
  const spread = [...ends].sort((a, b) => a - b);
  const domain = extent([spread[Math.floor(spread.length * 0.02)], spread[Math.ceil(spread.length * 0.98) - 1]], false);
  const x = scale(domain, [4, 116], false);
  return group => {
    if (group.mean === null) return null;
    const inside = v => Math.min(Math.max(x(v), -4), 124);
    const bar = group.interval && draw("line", { class: "whisker", x1: inside(group.interval[0]), x2: inside(group.interval[1]), y1: 8, y2: 8 });
    return draw("svg", { class: "inline", viewBox: "0 0 120 16", "aria-hidden": "true" }, bar, draw("circle", { cx: inside(group.mean), cy: 8, r: 3.5, fill: colour(1) }));
  };
})();

const isRepeated = data.groups.some(g => g.rows.length > 1);
const columns = [
  { name: "#", value: g => data.groups.indexOf(g), cell: g => (g.rank === null ? "–" : `${g.rank}${data.groups.some(other => other !== g && other.rank === g.rank && other.measured_on === g.measured_on) ? "=" : ""}`), number: true },
  { name: data.objective.name, value: g => g.mean ?? g.partial, cell: g => (g.mean !== null ? shown(g.mean) : g.partial !== null ? `(${shown(g.partial)})` : "–"), number: true, descending: data.objective.maximize },
  isRepeated && { name: "95 % interval", value: g => (g.interval ? g.interval[1] - g.interval[0] : null), cell: g => (g.interval ? `${shown(g.interval[0])} to ${shown(g.interval[1])}` : "–") },
  { plain: true, name: "", label: "picture of the mean and its interval", cell: g => whisker(g) },
  ...keys.map(key => ({ name: key, value: g => numberOf(g.values[key]), cell: g => (g.values[key] ? make("span", { title: g.values[key] }, brief(g.values[key])) : "–"), wrap: true })),
  isRepeated && { name: "runs", value: g => g.n, cell: g => String(g.n), number: true, descending: true },
  isRepeated && { name: "best", value: g => g.best, cell: g => shown(g.best), number: true, descending: data.objective.maximize },
  isRepeated && { name: "worst", value: g => g.worst, cell: g => shown(g.worst), number: true, descending: data.objective.maximize },
  { name: "seconds", value: g => g.seconds, cell: g => shown(g.seconds, 2), number: true },
  { name: "status", value: g => Object.keys(statuses(g)).join(), cell: g => Object.entries(statuses(g)).flatMap(([status, n]) => [badge(status), n > 1 ? ` ×${n} ` : " "]) },
  { plain: true, name: isRepeated ? "jobs" : "job", cell: g => g.rows.flatMap(i => [link(data.jobs[i]), " "]), wrap: true },
].filter(Boolean);
const ROWS = 30; // shown at first

function compare(column, sign) {
  return (a, b) => {
    const [x, y] = [column.value(a), column.value(b)];
    const [noX, noY] = [x === null || x === undefined || x === "", y === null || y === undefined || y === ""];
    if (noX || noY) return noX - noY; // unknown values come last in both directions
    if (typeof x === "number" && typeof y === "number") return sign * (x - y);
    return sign * String(x).localeCompare(String(y), undefined, { numeric: true });
  };
}

function leaderboard() {
  let order = { column: columns[0], sign: 1 }, isWhole = false;
  const all = make("button", { type: "button", onclick: () => { isWhole = true; paint(); } });
  const body = make("tbody"), count = make("span", { role: "status", class: "soft" });
  const filter = make("input", { type: "search", placeholder: "optim.lr 0.01 …", id: "filter", oninput: () => paint() });
  const every = [...new Set(data.jobs.map(job => job.status))].sort();
  const status = make("select", { id: "status", onchange: () => paint() }, make("option", { value: "" }, "every status"), every.map(s => make("option", { value: s }, words(s))));
  const heads = columns.map(column => {
    if (column.plain) return make("th", { scope: "col" }, column.name || make("span", { class: "hidden" }, column.label));
    const sort = () => {
      order = { column, sign: order.column === column ? -order.sign : column.descending ? -1 : 1 };
      paint();
    };
    return make("th", { scope: "col", class: column.number && "number", "aria-sort": "none" }, make("button", { type: "button", onclick: sort }, column.name));
  });
  const text = group => [...Object.entries(group.values).map(([k, v]) => `${k} ${v} ${k}=${v}`), ...group.rows.flatMap(i => [data.jobs[i].name, data.jobs[i].status, data.jobs[i].overrides.join(" ")])].join(" ").toLowerCase();
  const texts = new Map(data.groups.map(group => [group, text(group)]));
  const rows = new Map();
  const row = group => {
    if (!rows.has(group)) {
      const cells = columns.map(c => make("td", { class: [c.number && "number", c.wrap && (c.value ? String(c.value(group)).length > 24 : group.rows.length > 5) && "wrap"].filter(Boolean).join(" ") || null }, c.cell(group)));
      rows.set(group, make("tr", { class: data.best.group && group.rank === 1 && "best" }, ...cells));
    }
    return rows.get(group);
  };
  function paint() {
    const asked = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const kept = data.groups.filter(g => asked.every(word => texts.get(g).includes(word)) && (!status.value || g.rows.some(i => data.jobs[i].status === status.value)));
    body.replaceChildren(...kept.sort(compare(order.column, order.sign)).slice(0, isWhole ? kept.length : ROWS).map(row));
    all.textContent = `Show all ${kept.length}`;
    all.hidden = isWhole || kept.length <= ROWS;
    count.textContent = `${kept.length} of ${data.groups.length} configurations`;
    columns.forEach((column, i) => {
      if (!column.plain) heads[i].setAttribute("aria-sort", order.column !== column ? "none" : order.sign > 0 ? "ascending" : "descending");
    });
  }
  paint();
  const way = data.objective.maximize ? "more is better" : "less is better";
  return section("leaderboard", "Leaderboard",
    make("p", { class: "soft small" }, `${data.objective.name}, ${way}. ${isRepeated ? "Jobs that differ only in their seed are one configuration: mean, and Student’s 95 % interval of it." : "Every configuration ran once, so there are no intervals."} In brackets: stopped before its end, not ranked with the others.`),
    make("div", { class: "controls" }, make("label", { for: "filter" }, "Filter"), filter, make("label", { for: "status" }, "Status"), status, count),
    make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Leaderboard, scrolls sideways" }, make("table", {}, make("thead", {}, make("tr", {}, heads)), body)), make("p", {}, all));
}
