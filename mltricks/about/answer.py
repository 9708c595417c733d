"""The answers that need no configuration: ``--help``, ``--version`` and tab completion."""

from __future__ import annotations

import os
from collections.abc import Sequence


def answer(arguments: Sequence[str]) -> str | None:
    """What the command prints instead of running, or ``None``.

    Raises:
        ValueError: an unknown shell.
    """
    if {"-h", "--help"} & set(arguments):
        from mltricks.about.help import help_text

        return "\n".join(help_text()) + "\n"
    if "--version" in arguments:
        from mltricks.about.help import version_text

        return f"{version_text()}\n"
    flag = next((flag for flag in ("-sc", "--shell-completion") if flag in arguments), None)
    if flag is None:
        return None
    from mltricks.about.completion import answers, script

    what, _, shell = next((text for text in arguments if "=" in text), "install=").partition("=")
    if what == "query":
        return "".join(f"{word}\n" for word in answers(os.environ.get("COMP_LINE", "")))
    return script(what, shell)
