"""An installation works anywhere: from a wheel in an empty environment, and from a clone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from itertools import chain
from pathlib import Path

import pytest
from conftest import REPOSITORY, TINY, command_environment

pytest.importorskip("hatchling", reason="pip install -e '.[test]'")


def run(*command: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in command_environment().items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, REPOSITORY, cwd=folder)
    return next(folder.glob("*.whl"))


def environment(folder: Path) -> Path:
    """The ``bin`` folder of an environment that sees the libraries installed here, but not the clone."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    site = Path(
        run(
            folder / "bin" / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder.parent
        ).strip()
    )
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "libraries.pth").write_text("\n".join(libraries) + "\n")  # Python does not follow .pth files in there
    return folder / "bin"


def install(bin: Path, *what: str | Path) -> None:
    pip = [sys.executable, "-m", "pip", "--python", bin / "python", "install", "--quiet", "--no-deps", "--no-index"]
    run(*pip, "--disable-pip-version-check", *what, cwd=bin)


def test_the_wheel_holds_the_whole_configuration_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    there = {f"mltricks/{p.relative_to(REPOSITORY).as_posix()}" for p in (REPOSITORY / "conf").rglob("*.yaml")}
    there |= {p.relative_to(REPOSITORY).as_posix() for p in (REPOSITORY / "mltricks").rglob("*.*ml")}
    there |= {p.relative_to(REPOSITORY).as_posix() for p in (REPOSITORY / "mltricks").rglob("assets/*")}
    assert there <= names
    assert all(name.startswith(("mltricks/", "hydra_plugins/")) for name in names)
    assert not [name for name in names if "test" in name or name.endswith((".pyc", ".pt"))]


def test_a_wheel_trains_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    bin = environment(tmp_path / "empty")
    install(bin, wheel)
    code = "import mltricks; from mltricks.config.options import conf_dir; print(mltricks.__file__, conf_dir())"
    for path in run(bin / "python", "-c", code, cwd=tmp_path).split():
        assert str(path).startswith(str(tmp_path / "empty")), "the installed package is used"
    out = run(
        bin / "mltricks", *TINY, "epochs=1", "technique=mixup", "progress=lines", "hydra.run.dir=run", cwd=tmp_path
    )
    assert (tmp_path / "run" / "summary.json").is_file(), out


def test_an_editable_installation_reads_the_configuration_of_the_clone(tmp_path: Path) -> None:
    bin = environment(tmp_path / "editable")
    install(bin, "--no-build-isolation", "--editable", REPOSITORY)
    code = "import mltricks; from mltricks.config.options import conf_dir; print(mltricks.__file__); print(conf_dir())"
    file, conf = run(bin / "python", "-c", code, cwd=tmp_path).splitlines()
    assert Path(file) == REPOSITORY / "mltricks" / "__init__.py"
    assert Path(conf) == REPOSITORY / "conf"


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=\[; ]", line)[0].lower().replace("_", "-") for line in requirements}


def test_every_direct_dependency_has_a_tested_version() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    direct = names([*project["dependencies"], *chain(*project["optional-dependencies"].values())])
    lines = [line for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    assert direct <= names(lines)
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), (
        "only names and versions, no paths of a machine"
    )


def test_make_installs_once(tmp_path: Path) -> None:
    if not (make := next((p for p in map(Path, ("/usr/bin/make", "/bin/make")) if p.exists()), None)):
        pytest.skip("there is no make here")
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").touch()
    dry = [make, "-n", "-C", REPOSITORY, f"VENV={tmp_path / 'venv'}"]
    assert "pip" in run(*dry, "train", cwd=tmp_path)
    assert "[test]" in run(*dry, "test", cwd=tmp_path)
    for stamp in (".installed", ".installed-test"):
        (tmp_path / "venv" / stamp).touch()
        os.utime(tmp_path / "venv" / stamp, (2**31 - 2, 2**31 - 2))
    assert "pip" not in run(*dry, "train", cwd=tmp_path)
    assert "pip" not in run(*dry, "test", cwd=tmp_path)
