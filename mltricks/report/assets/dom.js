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

const section = (id, title, ...children) => make("section", { id }, make("h2", {}, title), ...children);

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
const clip = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);
const words = status => status.replaceAll("_", " ");
const badge = status => make("span", { class: `badge ${/^[\w-]+$/.test(status) ? status : ""}` }, words(status));
const address = name => name.split("/").map(encodeURIComponent).join("/");
const link = job => make("a", { href: `${address(job.name)}/${job.report ? "report.html" : ""}` }, job.name);

// A command with a button, which copy.js makes copy it.
const command = text => make("div", { class: "command" }, make("pre", {}, text), make("button", { type: "button", class: "copy" }, "Copy"));
