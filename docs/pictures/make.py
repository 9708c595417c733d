"""Make the pictures of the README and the docs: real runs in a temporary folder, photographed in headless Chromium.

    python docs/pictures/make.py            # all of them, in about two minutes on two cores
    python docs/pictures/make.py report     # only those whose name begins so

It needs chromium, or google-chrome, and the packages of ``pip install -e '.[test]'``. Pictures have a palette, so that
none takes over 200 kB.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
WIDE, PHONE = 1280, 390
TALLEST = {WIDE: 1700, PHONE: 1900}
"""Pixels of a page that a picture shows at most: its head and first sections."""
LARGEST = 200_000
"""Bytes of a picture, at most."""
MLP = ("model=mlp", "model.width=32")
SWEEP = ("optim.lr=3e-4,3e-3,3e-2", "seed=0,1,2", "epochs=6")
STUDY = ("hydra/sweeper=study", "tune=optim.lr+optim.weight_decay", "n_trials=20", "pruner=asha", "epochs=6")
ABLATION = ("hydra/sweeper=ablation", "technique=mixup+label_smoothing+ema", "mode=drop", "seeds=5", "epochs=4")
RECIPE = ("hydra/sweeper=recipe", "budget_epochs=30")
RUN = ("technique=mixup+ema", "scheduler=cosine", "epochs=8")
PLANE = ("experiment=batch_size", "batch_size=8,32,128,512", "optim.lr=0.002,0.006,0.02,0.06,0.2,0.6")
COMPARED = ("technique=none,mixup", "seed=0,1,2", "epochs=8", "fuse=false")


@dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Attributes:
        name: of its file, without extension.
        page: the page's path below the temporary folder.
        width: of the window, in pixels.
        scheme: ``light`` or ``dark``.
        section: id of the section that is shown; the head of the page, if empty.
    """

    name: str
    page: str
    width: int = WIDE
    scheme: str = "light"
    section: str = ""

    @property
    def kind(self) -> str:
        """The folder of the page, which names what makes it."""
        return self.page.partition("/")[0]


PICTURES = (
    Picture("report", "run/report.html"),
    Picture("report_dark", "run/report.html", scheme="dark"),
    Picture("report_phone", "run/report.html", PHONE),
    Picture("report_phone_dark", "run/report.html", PHONE, "dark"),
    Picture("sweep", "sweep/sweep.html"),
    Picture("sweep_dark", "sweep/sweep.html", scheme="dark"),
    Picture("sweep_phone", "sweep/sweep.html", PHONE),
    Picture("sweep_phone_dark", "sweep/sweep.html", PHONE, "dark"),
    Picture("study", "study/sweep.html"),
    Picture("study_phone", "study/sweep.html", PHONE),
    Picture("ablation", "ablation/sweep.html"),
    Picture("ablation_phone", "ablation/sweep.html", PHONE),
    Picture("recipe", "recipe/sweep.html"),
    Picture("recipe_phone", "recipe/sweep.html", PHONE),
    Picture("compare", "compare/compare.html"),
    Picture("compare_phone", "compare/compare.html", PHONE),
    Picture("effects", "effects/effects.html", section="effects"),
    Picture("flat_direction", "plane/sweep.html", section="contour"),
)


def main(chosen: Sequence[str]) -> int:
    """Make the pictures whose names begin with one of the words, or all."""
    if CHROMIUM is None:
        print("error: there is no chromium here; apt-get install chromium", file=sys.stderr)
        return 1
    wanted = [picture for picture in PICTURES if picture.name.startswith(tuple(chosen) or "")]
    terminal = not chosen or "progress".startswith(tuple(chosen))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if terminal:
            photograph_terminal(work)
        for kind in dict.fromkeys(picture.kind for picture in wanted):
            MAKERS[kind](work)
            photograph(work, [picture for picture in wanted if picture.kind == kind])
    return 0


def make_run(work: Path) -> None:
    """A run with its page."""
    command(work, *RUN, "hydra.run.dir=run")


def make_sweep(work: Path) -> None:
    """A grid of three learning rates and three seeds."""
    command(work, "-m", *MLP, *SWEEP, "hydra.sweep.dir=sweep")


def make_study(work: Path) -> None:
    """A study of 20 trials, pruned."""
    command(work, "-m", *MLP, *STUDY, "hydra.sweep.dir=study")


def make_ablation(work: Path) -> None:
    """An ablation of three techniques."""
    command(work, "-m", *MLP, *ABLATION, "hydra.sweep.dir=ablation")


def make_recipe(work: Path) -> None:
    """The seven steps of tuning."""
    command(work, "-m", *MLP, *RECIPE, "hydra.sweep.dir=recipe")


def make_compare(work: Path) -> None:
    """Two configurations, each with three seeds."""
    command(work, "-m", *MLP, *COMPARED, "hydra.sweep.dir=pair")
    command(work, "job=compare", f"runs={'+'.join(f'pair/{i}' for i in range(6))}", "hydra.run.dir=compare")


def make_effects(work: Path) -> None:
    """The measured effects of all options, from the tables in the package."""
    from mltricks.about.effects import effects_figure
    from mltricks.comparison.page import TEMPLATES
    from mltricks.figures.page import render
    from mltricks.figures.parts import Chart, Section

    body = [Section("Difference in accuracy", [Chart("effects", effects_figure())], name="effects")]
    head = {"title": "What each option is worth", "subtitle": "five paired seeds, 95 % intervals", "cards": []}
    (work / "effects").mkdir()
    (work / "effects" / "effects.html").write_bytes(render("compare.html", folder=TEMPLATES, **head, body=body))


def make_plane(work: Path) -> None:
    """A grid over batch size and learning rate."""
    command(work, "-m", *PLANE, "hydra.sweep.dir=plane")


MAKERS = {
    "plane": make_plane,
    "run": make_run,
    "sweep": make_sweep,
    "study": make_study,
    "ablation": make_ablation,
    "recipe": make_recipe,
    "compare": make_compare,
    "effects": make_effects,
}


def command(work: Path, *arguments: str, **environ: str) -> str:
    """Run mltricks as a user does; return what it prints.

    Raises:
        RuntimeError: it failed.
    """
    own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environ}
    words = [sys.executable, "-m", "mltricks", *arguments]
    done = subprocess.run(words, cwd=work, env={**os.environ, **own}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    return done.stdout


def photograph(work: Path, pictures: Sequence[Picture]) -> None:
    """Take the pictures."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        for picture in pictures:
            save(picture, screenshot(browser, (work / picture.page).as_uri(), picture))
        browser.close()


def screenshot(browser: Any, url: str, picture: Picture) -> bytes:
    """The top of a page as PNG."""
    page = browser.new_page(viewport={"width": picture.width, "height": 900}, color_scheme=picture.scheme)
    page.goto(url)
    page.wait_for_selector("html[data-drawn], html[data-ready]")
    page.evaluate("document.fonts.ready")
    height = min(page.evaluate("document.documentElement.scrollHeight"), TALLEST[picture.width])
    page.set_viewport_size({"width": picture.width, "height": height})
    page.wait_for_timeout(300)  # figures are drawn again for the new size
    taken: bytes = page.locator(f"#{picture.section}").screenshot() if picture.section else page.screenshot()
    page.close()
    return taken


def save(picture: Picture, content: bytes) -> None:
    """Write a picture with as many colours as keep it small.

    Raises:
        RuntimeError: it is too large even with 32 colours.
    """
    from PIL import Image

    path = HERE / f"{picture.name}.png"
    whole = Image.open(BytesIO(content)).convert("RGB")
    for colors in (128, 64, 32):
        whole.quantize(colors, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size <= LARGEST:
            print(f"{path.relative_to(ROOT)}  {path.stat().st_size / 1000:.0f} kB")
            return
    raise RuntimeError(f"{path} takes {path.stat().st_size} bytes, over {LARGEST}")


def photograph_terminal(work: Path) -> None:
    """The console of a run as ``progress.svg``."""
    from rich.console import Console
    from rich.text import Text

    typed = ["model=mlp", "technique=mixup+ema", "scheduler=cosine", "epochs=6"]
    shown = command(work, *typed, "hydra.run.dir=outputs/first", COLUMNS="80")
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=82, file=nowhere, force_terminal=True)
        typed_line = f"$ python -m mltricks {' '.join(typed)}".replace(" scheduler", " \\\n    scheduler")
        console.print(Text(typed_line, style="bold"))
        for line in shown.splitlines():
            style = "green" if line.endswith("best") else "dim" if line.startswith(("epoch ", "      ")) else ""
            console.print(Text(line, style=style))
    drawn = console.export_svg(title="mltricks", unique_id="mltricks")
    drawn = re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL)  # they would be fetched from a network
    (HERE / "progress.svg").write_text("\n".join(line.rstrip() for line in drawn.splitlines() if line.strip()) + "\n")
    print(f"{(HERE / 'progress.svg').relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
