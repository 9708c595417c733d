// A watched page is loaded again every few seconds. The browser keeps the place; this keeps the filters.
(() => {
  const key = `watched ${location.pathname}`, kind = field => field.type === "checkbox" ? "checked" : "value";
  const fields = () => [...document.querySelectorAll("input[id], select[id]")];
  addEventListener("pagehide", () => {
    sessionStorage.setItem(key, JSON.stringify(fields().map(field => [field.id, field[kind(field)]])));
  });
  addEventListener("load", () => {
    const kept = new Map(JSON.parse(sessionStorage.getItem(key) || "[]"));
    for (const field of fields())
      if (kept.has(field.id) && kept.get(field.id) !== field[kind(field)]) {
        field[kind(field)] = kept.get(field.id);
        for (const name of ["input", "change"]) field.dispatchEvent(new Event(name, { bubbles: true }));
      }
  });
})();
