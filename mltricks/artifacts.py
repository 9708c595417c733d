"""Weights that lie on a W&B server: ``checkpoint=wandb:entity/project/name:alias`` as a file on this machine.

A version (``v3``) never changes, so one that was downloaded before needs no network. An alias (``best``, ``latest``) is
looked up each time. Downloads lie in ``~/.cache/mltricks/artifacts`` (or below ``XDG_CACHE_HOME``).
"""

from __future__ import annotations

import netrc
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from mltricks.process.atomic import first_line

PREFIX = "wandb:"
FILE = "best.safetensors"
"""The file of an artifact that holds the weights."""
NAME = re.compile(r"wandb:([\w.-]+)/([\w.-]+)/([\w.-]+):([\w.-]+)")
VERSION = re.compile(r"v\d+")
TIMEOUT_S = 60
"""Longest wait in seconds for one answer of the server."""


def is_artifact(path: Any) -> bool:
    """Whether a setting names an artifact instead of a file."""
    return isinstance(path, str) and path.startswith(PREFIX)


def local_file(path: Path) -> Path:
    """The file of an artifact, downloaded if need be; any other path as it is.

    Raises:
        ValueError: the name is incomplete, there is no API key, or the server has no such artifact.
    """
    text = path.as_posix()
    if not is_artifact(text):
        return path
    match = NAME.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text} names no artifact. Type wandb:ENTITY/PROJECT/NAME:ALIAS, as wandb:me/digits/model-x:best."
        )
    *place, alias = match.groups()
    folder = cache_folder().joinpath(*place)
    if VERSION.fullmatch(alias) and (folder / alias / FILE).is_file():
        return folder / alias / FILE
    if not has_key():
        raise ValueError(
            f"{text} lies on a W&B server, and no API key was found (WANDB_API_KEY, or wandb login)."
            f"{known_versions(text, folder)} Log in, or give the folder of a run."
        )
    try:
        return downloaded("/".join(place) + f":{alias}", folder)
    except Exception as error:  # wandb raises errors of many libraries
        raise ValueError(
            f"{text} could not be downloaded: {first_line(error)}.{known_versions(text, folder)} "
            "Check the name on the artifact's page, and the network."
        ) from error


def downloaded(name: str, folder: Path) -> Path:
    """Download an artifact's file into ``folder/VERSION``; a kill leaves no partial file there."""
    import wandb

    artifact = wandb.Api(timeout=TIMEOUT_S).artifact(name)
    target = folder / artifact.version / FILE
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as partial:
            source = artifact.get_entry(FILE).download(root=partial)
            shutil.move(source, Path(partial) / "whole")
            os.replace(Path(partial) / "whole", target)
    return target


def cache_folder() -> Path:
    """Where downloaded artifacts lie."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mltricks" / "artifacts"


def known_versions(text: str, folder: Path) -> str:
    """A sentence that names the versions that were downloaded before, if any."""
    found = sorted((p.parent.name for p in folder.glob(f"v*/{FILE}")), key=lambda v: int(v[1:]))
    return f" Downloaded before: {', '.join(text.rpartition(':')[0] + ':' + v for v in found)}." if found else ""


def has_key() -> bool:
    """Whether there is an API key, in the environment or in the netrc file."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    named = os.environ.get("NETRC")
    for path in [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if netrc.netrc(str(path)).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False
