// The leaderboard: configurations, the best first; sorted by any column, filtered by text, by status, and by the figures.
const ROWS = 30; // shown at first
const isRepeated = data.groups.some(group => group.rows.length > 1);
const hasInterval = data.groups.some(group => group.interval);

function statuses(group) {
  const counts = {};
  for (const i of group.rows) counts[data.jobs[i].status] = (counts[data.jobs[i].status] || 0) + 1;
  return counts;
}
const numberOf = text => (text !== "" && Number.isFinite(Number(text)) ? Number(text) : text);
const isTied = group => data.groups.some(other => other !== group && other.rank === group.rank && other.measured_on === group.measured_on);

// The mean and its interval on an axis that is the same in every row, without the worst fifth.
const whisker = (() => {
  const ends = data.groups.flatMap(g => [g.mean, ...(g.interval || [])]).filter(known).sort((a, b) => a - b);
  const at = share => ends[Math.round(share * (ends.length - 1))];
  const [low, high] = data.objective.maximize ? [at(0.2), at(1)] : [at(0), at(0.8)];
  const x = v => Math.min(Math.max(4 + (high > low ? (v - low) / (high - low) : 0.5) * 112, -4), 124);
  return group => {
    if (group.mean === null) return null;
    const bar = group.interval && draw("line", { class: "whisker", x1: x(group.interval[0]), x2: x(group.interval[1]), y1: 8, y2: 8 });
    return draw("svg", { class: "inline", viewBox: "0 0 120 16", "aria-hidden": "true" }, bar, draw("circle", { class: "mean", cx: x(group.mean), cy: 8, r: 3.5 }));
  };
})();

const interval = g => (g.interval ? `${shown(g.interval[0])} to ${shown(g.interval[1])}` : "–");
const scoreOf = g => (g.mean !== null ? shown(g.mean) : g.partial !== null ? `(${shown(g.partial)})` : "–");

// A narrow screen shows the interval below the mean, so that the swept values fit beside them.
const columns = [
  { name: "#", value: g => data.groups.indexOf(g), cell: g => (g.rank === null ? "–" : `${g.rank}${isTied(g) ? "=" : ""}`), number: true },
  { name: data.objective.name, value: g => g.mean ?? g.partial, cell: g => [scoreOf(g), g.interval && make("small", { class: "narrow" }, interval(g))], number: true, descending: data.objective.maximize },
  hasInterval && { name: "95 % interval", value: g => (g.interval ? g.interval[1] - g.interval[0] : null), cell: interval, wide: true },
  { plain: true, name: "", label: "picture of the mean and its interval", cell: g => whisker(g), wide: true },
  ...data.keys.map(key => ({ name: key, value: g => numberOf(g.values[key]), cell: g => (g.values[key] ? make("span", { title: g.values[key] }, brief(g.values[key])) : "–"), wrap: true })),
  isRepeated && { name: "runs", value: g => g.n, cell: g => String(g.n), number: true, descending: true },
  isRepeated && { name: "best", value: g => g.best, cell: g => shown(g.best), number: true, descending: data.objective.maximize },
  isRepeated && { name: "worst", value: g => g.worst, cell: g => shown(g.worst), number: true, descending: data.objective.maximize },
  { name: "seconds", value: g => g.seconds, cell: g => shown(g.seconds, 2), number: true },
  { name: "status", value: g => Object.keys(statuses(g)).join(), cell: g => Object.entries(statuses(g)).flatMap(([status, n]) => [badge(status), n > 1 ? ` ×${n} ` : " "]) },
  { plain: true, name: isRepeated ? "jobs" : "job", cell: g => g.rows.flatMap(i => [link(data.jobs[i]), " "]), wrap: true },
].filter(Boolean);

// A name that a narrow column may break behind its dots.
const breakable = name => name.split(/(?<=\.)/).flatMap((part, i) => (i ? [make("wbr"), part] : [part]));

function compare(column, sign) {
  return (a, b) => {
    const [x, y] = [column.value(a), column.value(b)];
    const [noX, noY] = [x === null || x === undefined || x === "", y === null || y === undefined || y === ""];
    if (noX || noY) return noX - noY; // unknown values come last in both directions
    if (typeof x === "number" && typeof y === "number") return sign * (x - y);
    return sign * String(x).localeCompare(String(y), undefined, { numeric: true });
  };
}

// What a row shows when it is opened: its command, and the page of each of its jobs or the command that writes it.
function details(group) {
  const without = group.rows.map(i => data.jobs[i]).filter(job => !job.report), pages = group.rows.map(i => data.jobs[i]).filter(job => job.report);
  return make("tr", { class: "details" }, make("td", { colspan: columns.length + 1 }, make("div", {}, make("h3", {}, "Run it again"), command(group.command),
    pages.length ? make("p", {}, "Reports: ", pages.flatMap(job => [link(job), " "])) : null,
    without.length ? [make("h3", {}, without.length > 1 ? "Write the reports of its jobs" : "Write the report of its job"), ...without.map(job => command(job.page_command))] : null)));
}

function explained() {
  const kinds = new Set(data.groups.map(group => group.interval_of).filter(Boolean));
  const said = [`${data.objective.name}, ${data.objective.maximize ? "more" : "less"} is better.`];
  if (isRepeated) said.push("Jobs that differ only in their seed or fold are one configuration.");
  if (kinds.has("seeds")) said.push("Intervals over seeds: Student’s 95 % interval of the mean.");
  if (kinds.has("folds") || kinds.has("runs")) said.push("Intervals over folds: Student’s 95 % interval of the mean; folds share training samples, so it is rather too narrow.");
  if (kinds.has("split")) said.push(`${kinds.has("seeds") ? "With one seed" : "Every configuration ran with one seed"}: Wilson’s 95 % interval, which covers the choice of the validation samples and not that of the seed.`);
  if (!kinds.size) said.push("Every configuration ran once, so there are no intervals.");
  if (data.groups.some(group => group.rank === null)) said.push("In brackets: stopped before its end, not ranked with the others.");
  return said.join(" ");
}

function leaderboard() {
  let order = { column: columns[0], sign: 1 }, isWhole = false;
  const opened = new Set();
  const all = make("button", { type: "button", onclick: () => { isWhole = true; paint(); } });
  const body = make("tbody"), count = make("span", { role: "status", class: "soft" });
  const clear = make("button", { type: "button", onclick: () => kept.clear() }, "Show all ranges");
  const filter = make("input", { type: "search", placeholder: "optim.lr 0.01 …", id: "filter", oninput: () => paint() });
  const every = [...new Set(data.jobs.map(job => job.status))].sort();
  const status = make("select", { id: "status", onchange: () => paint() }, make("option", { value: "" }, "every status"), every.map(s => make("option", { value: s }, words(s))));
  const heads = columns.map(column => {
    if (column.plain) return make("th", { scope: "col", class: column.wide && "wide" }, column.name || make("span", { class: "hidden" }, column.label));
    const sort = () => {
      order = { column, sign: order.column === column ? -order.sign : column.descending ? -1 : 1 };
      paint();
    };
    return make("th", { scope: "col", class: (column.number && "number") || (column.wide && "wide"), "aria-sort": "none" }, make("button", { type: "button", onclick: sort }, breakable(column.name)));
  });
  const text = group => [...Object.entries(group.values).map(([k, v]) => `${k} ${v} ${k}=${v}`), ...group.rows.flatMap(i => [data.jobs[i].name, data.jobs[i].status, data.jobs[i].overrides.join(" ")])].join(" ").toLowerCase();
  const texts = new Map(data.groups.map(group => [group, text(group)]));
  const rows = new Map();
  const opener = group => make("button", { type: "button", class: "open", "aria-expanded": "false", "aria-label": "Commands of this configuration", onclick: event => {
    opened[opened.has(group) ? "delete" : "add"](group);
    event.currentTarget.setAttribute("aria-expanded", opened.has(group));
    paint();
  } });
  const row = group => {
    if (!rows.has(group)) {
      const cells = columns.map(c => make("td", { class: [c.number && "number", c.wide && "wide", c.wrap && (c.value ? String(c.value(group)).length > 24 : group.rows.length > 5) && "wrap"].filter(Boolean).join(" ") || null }, c.cell(group)));
      rows.set(group, make("tr", { class: data.best !== null && group.rank === 1 && "best" }, make("td", {}, opener(group)), ...cells));
    }
    return opened.has(group) ? [rows.get(group), details(group)] : [rows.get(group)];
  };
  function paint() {
    const asked = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = data.groups.filter((g, i) => (!kept.rows || kept.rows.has(i)) && asked.every(word => texts.get(g).includes(word)) && (!status.value || g.rows.some(i => data.jobs[i].status === status.value)));
    body.replaceChildren(...found.sort(compare(order.column, order.sign)).slice(0, isWhole ? found.length : ROWS).flatMap(row));
    all.textContent = `Show all ${found.length}`;
    all.hidden = isWhole || found.length <= ROWS;
    clear.hidden = !kept.rows;
    count.textContent = `${found.length} of ${data.groups.length} configurations${kept.rows ? ", in the ranges chosen in the parallel coordinates" : ""}`;
    columns.forEach((column, i) => {
      if (!column.plain) heads[i].setAttribute("aria-sort", order.column !== column ? "none" : order.sign > 0 ? "ascending" : "descending");
    });
  }
  kept.listeners.push(paint);
  paint();
  document.getElementById("leaderboard").append(
    make("p", { class: "note" }, explained()),
    make("div", { class: "controls" }, make("label", { for: "filter" }, "Filter"), filter, make("label", { for: "status" }, "Status"), status, count, clear),
    make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Leaderboard, scrolls sideways" }, make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, make("span", { class: "hidden" }, "commands")), heads)), body)), make("p", {}, all));
}
