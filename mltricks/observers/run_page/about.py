"""How to repeat and to use a run: commands, what differs from the defaults, versions, the whole configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mltricks.config import names
from mltricks.config.create import is_given
from mltricks.figures.parts import Code, Part, Section, Table, Text
from mltricks.observers.files import yaml_text
from mltricks.observers.formats import shown_folder

if TYPE_CHECKING:
    from mltricks.build import Run
    from mltricks.summary import Summary


CHANGED, ENVIRONMENT = "Changed from the defaults", "Environment"
IN_HEAD = ("name", "tags", "notes")
"""Settings that the head of the page shows."""


def commands_section(run: Run, folder: Path, summary: Summary) -> Section:
    """The command that repeats the run, and code that loads its model."""
    again: list[Part] = [Text("Run it again:"), Code(command(summary, folder, given(run, "model", "data")))]
    use: list[Part] = [Text("Use the model in Python:"), Code(loading(run, folder))] if summary.val else []
    return Section("Commands", [*again, *use], half=True)


def command(summary: Summary, folder: Path, objects: str = "") -> str:
    """The command that repeats a run; for a run composed in Python, code that reads its configuration.

    Args:
        summary: of the run.
        folder: of the run.
        objects: the arguments for what a program gave, as code.
    """
    from hydra.core.hydra_config import HydraConfig

    if summary.overrides or HydraConfig.initialized() or (folder / ".hydra").is_dir():
        return names.command(summary.overrides)
    path = f"{shown_folder(folder)}/config.yaml"
    return f"import mltricks\nfrom omegaconf import OmegaConf\n\nmltricks.train(OmegaConf.load({path!r}){objects})"


def given(run: Run, *names: str) -> str:
    """The objects that a program gave the run instead of options, as arguments in code."""
    return "".join(f", {name}={name}" for name in names if is_given(run.cfg[name]))


def loading(run: Run, folder: Path) -> str:
    """Code that loads the model and predicts."""
    allow = run.cfg["allow_modules"]
    more = f", allow_modules={list(allow)}" if allow else ""
    more += given(run, "model")
    return (
        "import mltricks\n\n"
        f"model = mltricks.load({shown_folder(folder)!r}{more})\n"
        f"model.predict(x)  # x: raw inputs, {run.data.info.input}, one sample or many"
    )


def changes_section(summary: Summary) -> Section | None:
    """What the run's command changed, beside the default and the meaning of each setting."""
    usual = defaults(summary.overrides)
    rows = []
    for override in summary.overrides:
        key, _, value = names.without_brackets(override.lstrip("+~")).partition("=")
        default, meaning = usual.get(key, ("", ""))
        rows += [[key, value, default, meaning]] if value != default and key not in IN_HEAD else []
    return Section(CHANGED, [Table(["setting", "this run", "default", "meaning"], rows)]) if rows else None


def defaults(overrides: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Default and meaning of top-level settings, groups, and the settings of the options that the overrides touch."""
    from mltricks.config.cards import read_card
    from mltricks.config.options import conf_dir

    found = top_level(conf_dir() / "config.yaml")
    chosen = dict(override.lstrip("+~").partition("=")[::2] for override in overrides)
    for key in chosen:
        group, _, rest = key.partition(".")
        option = rest.partition(".")[0] if group == "technique" else chosen.get(group, found.get(group, ("", ""))[0])
        path = conf_dir() / group / f"{option}.yaml"
        if rest and path.is_file():
            found |= {name: (default, meaning) for name, default, meaning in read_card(path).values}
        elif not rest and (card := conf_dir() / group / f"{chosen[group]}.yaml").is_file():
            found[group] = (found.get(group, ("", ""))[0], read_card(card).what)
    return found


def top_level(path: Path) -> dict[str, tuple[str, str]]:
    """Default and meaning of every top-level setting, and the default option of every group."""
    import yaml

    from mltricks.config.cards import read_values

    words = path.read_text(encoding="utf-8")
    content = yaml.load(words, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    groups = {
        k: v for entry in content["defaults"] if isinstance(entry, dict) for k, v in entry.items() if " " not in k
    }
    found = {name: (default, meaning) for name, default, meaning in read_values(words, "")}
    return found | {group: (text(option), "") for group, option in groups.items()}


def text(value: Any) -> str:
    """A value as the command line has it.

    >>> text(None), text(True), text([])
    ('null', 'true', 'none')
    """
    if isinstance(value, list):
        return "+".join(map(str, value)) or "none"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def environment_section(run: Run, summary: Summary) -> Section:
    """Versions, device and the state of the working directory."""
    rows = [[name, version] for name, version in summary.versions.items()]
    threads = f", {summary.threads} thread{'s' if summary.threads > 1 else ''}" if summary.threads else ""
    rows += [["device", f"{summary.device}{threads}"], ["trained parameters", f"{run.num_params:,}"]]
    if summary.git:
        changed = ", and files that were changed since" if summary.git["changed"] else ""
        rows.append(["git commit", summary.git["commit"][:12] + changed])
    rows += [["note", message] for message in summary.messages]
    return Section(ENVIRONMENT, [Table([], rows)], half=True)


def configuration_section(run: Run) -> Section:
    """The whole configuration, to be opened."""
    return Section("Configuration", [Code(yaml_text(run.cfg))], folded=True)
