// Axes, scales and colours of all pictures.
const RAMP = [[111, 99, 214], [190, 66, 148], [240, 140, 20]];
function colour(share) { // 0 the worst, 1 the best
  const at = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1);
  const low = Math.min(Math.floor(at), RAMP.length - 2);
  return `rgb(${RAMP[low].map((c, k) => Math.round(c + (at - low) * (RAMP[low + 1][k] - c))).join(" ")})`;
}
function extent(values, log) {
  const found = values.filter(v => known(v) && (!log || v > 0));
  if (!found.length) return [log ? 0.1 : 0, 1];
  let [low, high] = [Math.min(...found), Math.max(...found)];
  if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - (Math.abs(low) * 0.1 || 0.5), high + (Math.abs(high) * 0.1 || 0.5)];
  const pad = log ? (high / low) ** 0.05 : (high - low) * 0.05;
  return log ? [low / pad, high * pad] : [low - pad, high + pad];
}
function scale([low, high], [from, to], log) {
  const f = log ? Math.log10 : v => v;
  return v => from + (f(v) - f(low)) / (f(high) - f(low)) * (to - from);
}
function ticks([low, high], log, count = 5) {
  if (log) {
    const powers = [];
    for (let p = Math.ceil(Math.log10(low) - 1e-9); p <= Math.log10(high) + 1e-9; p++) powers.push(10 ** p);
    if (powers.length > 1) return powers.filter((_, i) => i % Math.ceil(powers.length / 7) === 0);
  }
  const step = 10 ** Math.floor(Math.log10((high - low) / count));
  const wide = step * [1, 2, 5, 10].find(k => (high - low) / (step * k) <= count);
  const found = [];
  for (let v = Math.ceil(low / wide); v * wide <= high + wide * 1e-9; v++) found.push(Number((v * wide).toPrecision(12)));
  return log ? found.filter(v => v > 0) : found;
}
function tickText(value) {
  const size = Math.abs(value);
  return size && (size < 1e-3 || size >= 1e5) ? value.toExponential(0).replace("e", "e").replace("+", "") : String(Number(value.toPrecision(4)));
}

// A frame with grid and labels. x and y: {domain, log, label, names}; inside: the box of the data.
function frame(width, height, x, y, name) {
  const box = { left: 52, right: width - 12, top: 12, bottom: height - 40 };
  const sx = scale(x.domain, [box.left, box.right], x.log), sy = scale(y.domain, [box.bottom, box.top], y.log);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": name });
  for (const v of ticks(y.domain, y.log)) {
    svg.append(draw("line", { class: "gridline", x1: box.left, x2: box.right, y1: sy(v), y2: sy(v) }));
    svg.append(draw("text", { x: box.left - 6, y: sy(v) + 4, "text-anchor": "end" }, tickText(v)));
  }
  const at = x.names ? x.names.map((text, i) => [i, text]) : ticks(x.domain, x.log, Math.max(2, Math.round(width / 110))).map(v => [v, tickText(v)]);
  const every = Math.ceil(at.length / Math.max(1, Math.floor(width / (x.names ? 70 : 40))));
  const letters = Math.max(4, Math.floor((box.right - box.left) / at.length * every / 6.5));
  at.forEach(([v, text], i) => {
    if (i % every) return;
    const label = draw("text", { x: sx(v), y: box.bottom + 16, "text-anchor": "middle" }, x.names ? clip(text || "(none)", letters) : text);
    if (x.names) label.append(draw("title", {}, text));
    svg.append(label);
  });
  svg.append(draw("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
  svg.append(draw("text", { x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle" }, clip(x.label, Math.floor(width / 7))));
  return { svg, sx, sy, box };
}

const redraws = [];
// A picture that is redrawn when its width changes.
function picture(host, paint) {
  let width = 0;
  const again = force => {
    const now = Math.floor(host.clientWidth);
    if (!now || (now === width && !force)) return;
    width = now;
    host.replaceChildren(paint(Math.max(now, 240)));
  };
  redraws.push(again);
  return () => again(true);
}
let waiting = 0;
addEventListener("resize", () => {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(() => redraws.forEach(again => again(false)));
});
