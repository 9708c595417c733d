// Draws every <div class="chart"> from the JSON inside it with plotly.js, in the colours of the page.
// Other scripts of a page may call Charts.draw(div, figure), also again with another figure; Charts.figure(div) is the last.
const Charts = (() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const figures = new Map();
  const NARROW = 560; // pixels below which panels stand in one column
  const config = div => ({
    displaylogo: false, responsive: false, scrollZoom: false, doubleClick: "reset",
    modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
    toImageButtonOptions: { format: "png", filename: div.dataset.name || "figure", scale: 2 },
  });

  const color = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function themed(figure, width) {
    const ink = color("--ink"), soft = color("--soft"), line = color("--line"), card = color("--card");
    const layout = structuredClone(figure.layout);
    for (const key of Object.keys(layout).filter(key => /^[xy]axis\d*$/.test(key)))
      layout[key] = { gridcolor: line, linecolor: line, tickcolor: line, ...layout[key], tickfont: { color: soft, ...layout[key].tickfont } };
    Object.assign(layout, { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", width });
    layout.font = { ...layout.font, color: ink };
    layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: ink, ...layout.modebar };
    layout.hoverlabel = { ...layout.hoverlabel, bgcolor: card, bordercolor: line, font: { ...layout.hoverlabel?.font, color: ink } };
    const named = figure.data.filter(trace => trace.showlegend).length;
    for (const note of layout.annotations || []) if (note.bgcolor === "card") note.bgcolor = card;
    if (layout.meta?.columns > 1 && width < NARROW) oneColumn(layout);
    else if (width < NARROW && named > 1) roomForLegend(layout, figure.data, width);
    const data = figure.data.map(trace => coloured(trace, ink, soft));
    return [data, layout];
  }

  // plotly puts the names of a legend in columns as wide as the longest, and lets it grow up into the title.
  function roomForLegend(layout, data, width) {
    const widths = data.filter(trace => trace.showlegend).map(trace => 42 + 6.2 * trace.name.length), free = width - 55;
    const perRow = widths.reduce((a, b) => a + b) <= free ? widths.length : Math.max(1, Math.floor(free / Math.max(...widths)));
    const more = 19 * (Math.ceil(widths.length / perRow) - 1);
    layout.margin = { ...layout.margin, t: layout.margin.t + more };
    layout.height += more;
  }

  function coloured(trace, ink, soft) {
    const found = { ...trace };
    for (const key of ["error_x", "error_y"]) if (found[key]) found[key] = { color: soft, thickness: 1.5, width: 3, ...found[key] };
    if (found.text || found.texttemplate) found.textfont = { color: ink, ...found.textfont };
    return found;
  }

  function oneColumn(layout) {
    const { panels, columns } = layout.meta, rows = Math.ceil(panels / columns);
    layout.height = layout.height / rows * panels;
    layout.legend = { ...layout.legend, y: 1 + 30 / layout.height };
    const gap = 85 / layout.height, height = (1 - gap * (panels - 1)) / panels;
    for (let i = 0; i < panels; i++) {
      const number = i ? i + 1 : "", top = 1 - i * (height + gap);
      layout[`xaxis${number}`].domain = [0, 1];
      layout[`yaxis${number}`].domain = [Math.max(0, top - height), top];
    }
  }

  function draw(div, figure) {
    figures.set(div, figure);
    if (figure.layout.meta?.least_width) div.style.minWidth = `${figure.layout.meta.least_width}px`;
    const width = div.clientWidth;
    if (!width) return Promise.resolve(); // folded away: the observer draws it when it is opened
    const [data, layout] = themed(figure, width);
    div.style.minHeight = `${layout.height}px`;
    return Plotly.react(div, data, layout, config(div)).then(() => { div.dataset.drawn = width; });
  }

  const observer = new ResizeObserver(entries => {
    for (const { target } of entries)
      if (target.clientWidth && target.clientWidth !== Number(target.dataset.drawn)) draw(target, figures.get(target));
  });
  dark.addEventListener("change", () => figures.forEach((figure, div) => draw(div, figure)));

  async function start() {
    for (const div of document.querySelectorAll("div.chart")) {
      const source = div.querySelector("script");
      if (!source) continue;
      await draw(div, JSON.parse(source.textContent));
      observer.observe(div);
    }
    document.documentElement.dataset.drawn = "true";
  }
  return { draw: (div, figure) => { observer.observe(div); return draw(div, figure); }, figure: div => figures.get(div), start, color };
})();
Charts.start();
