// Builds the page from its sections.
function header() {
  const { state, objective, best } = data, group = best.group;
  const interval = group && group.interval ? ` ±\u00a0${shown((group.interval[1] - group.interval[0]) / 2)}` : "";
  const card = (value, name, style = "") => make("div", { class: `card ${style}` }, make("b", {}, value), make("span", {}, name));
  const said = [state.sweeper && `sweeper ${state.sweeper}`, state.started && `started ${state.started.replace("T", " ").slice(0, 16)}`, state.set_aside && `${state.set_aside} interrupted attempts left out`].filter(Boolean);
  const parts = [make("h1", {}, `Sweep ${data.title}`), make("p", { class: "sub" }, said.join(" · ")),
    make("div", { class: "cards" }, card(state.finished ? "finished" : "not finished", "state", state.finished ? "finished" : "running"), card(`${state.done} of ${state.total}`, "jobs done"),
      best.said ? card(shown(best.said.objective && best.said.objective.value), `${objective.name} of the configuration kept`) : card(group ? shown(group.mean) + interval : "–", `best ${objective.name}${group && group.n > 1 ? `, mean of ${group.n}` : ""}`),
      ...(group && known(group.trivial) ? [card(shown(group.trivial), "trivial predictor: a constant prediction")] : []),
      card(String(data.groups.length), data.groups.length === 1 ? "configuration" : "configurations"),
      card(duration(known(state.seconds) ? state.seconds : state.training_seconds), known(state.seconds) ? "wall time" : "training time, all jobs"))];
  const commands = section("commands", "Commands");
  sections.pop();
  if (best.command) commands.append(make("h3", {}, "The best configuration"), command(best.command, "the command of the best configuration"));
  if (best.said && best.said.experiment_command) commands.append(make("h3", {}, "The same, as an experiment"), command(best.said.experiment_command, "the command of the experiment"));
  if (data.command) commands.append(make("h3", {}, "This sweep"), command(data.command, "the command of this sweep"));
  if (data.warnings.length) commands.append(make("h3", {}, "Warnings"), make("ul", { class: "warnings" }, data.warnings.map(text => make("li", {}, text))));
  return [...parts, commands];
}

const top_ = header();
const rest = [recipeSection, ablationSection, leaderboard, learningCurves, parallel, importanceSection, slicesSection, failures].map(part => part()).filter(Boolean);
const nav = make("nav", { "aria-label": "Sections" }, sections.map(([id, title]) => make("a", { href: `#${id}` }, title)));
document.getElementById("page").replaceChildren(...top_, nav, ...rest);
document.title = `Sweep ${data.title}`;
redraws.forEach(again => again(false));
document.documentElement.dataset.ready = "true";
