// Creates elements and formats numbers. Text is only ever set as text, never parsed as HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const PARTIAL = ["pruned", "interrupted", "unfinished"];

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter(child => child !== null && child !== undefined && child !== ""));
  return element;
}
const make = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const sections = [];
function section(id, title, ...children) {
  const heading = make("h2", { id: `${id}-title` }, title);
  sections.push([id, title]);
  return make("section", { id, "aria-labelledby": `${id}-title` }, heading, ...children);
}

const known = value => typeof value === "number" && Number.isFinite(value);
function shown(value, digits = 4) {
  if (!known(value)) return value === null || value === undefined ? "–" : String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 0.05) return String(Number(value.toPrecision(3)));
  return size >= 1e-3 && size < 1e4 ? value.toFixed(size < 10 ? digits : 2) : value.toExponential(2);
}
const short = value => (known(value) ? String(Number(value.toPrecision(3))) : shown(value));
// A swept value as text; sampled numbers are shortened.
const brief = text => (text.length > 8 && Number.isFinite(Number(text)) ? String(Number(Number(text).toPrecision(4))) : text);
function duration(seconds) {
  if (!known(seconds)) return "–";
  if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  if (seconds < 7200) return `${(seconds / 60).toFixed(1)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
const clip = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);
const words = status => status.replaceAll("_", " ");
const badge = status => make("span", { class: `badge ${/^[\w-]+$/.test(status) ? status : ""}` }, words(status));
const address = name => name.split("/").map(encodeURIComponent).join("/");
const link = job => make("a", { href: `${address(job.name)}/${job.report ? "report.html" : ""}` }, job.name);

function describe(job) {
  const values = Object.entries(job.values).map(([key, value]) => `${key}=${brief(value)}`).join("  ");
  return `job ${job.name}  ${values}  ${data.objective.name} ${shown(job.value)}  ${words(job.status)}`;
}

function command(text, name) {
  const said = make("span", { class: "hidden", role: "status" });
  const copy = async event => {
    const button = event.currentTarget;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = make("textarea", { class: "hidden" });
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      button.focus();
    }
    button.textContent = "Copied";
    said.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; said.textContent = ""; }, 1500);
  };
  const button = make("button", { type: "button", class: "copy", "aria-label": `Copy ${name}`, onclick: copy }, "Copy");
  return make("div", { class: "command" }, make("pre", {}, text), button, said);
}

// A group of marks is one tab stop; the arrow keys move between its marks.
function roving(marks, show) {
  marks.forEach((mark, i) => {
    mark.setAttribute("tabindex", i ? -1 : 0);
    mark.addEventListener("focus", () => show(i));
    mark.addEventListener("mouseenter", () => show(i));
    mark.addEventListener("blur", () => show(null));
    mark.addEventListener("mouseleave", () => show(null));
    mark.addEventListener("keydown", event => {
      const to = { ArrowRight: i + 1, ArrowDown: i + 1, ArrowLeft: i - 1, ArrowUp: i - 1, Home: 0, End: marks.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      const next = marks[(to + marks.length) % marks.length];
      marks.forEach(other => other.setAttribute("tabindex", other === next ? 0 : -1));
      next.focus();
    });
  });
}
