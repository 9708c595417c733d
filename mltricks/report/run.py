"""Writes the page of one run again from its folder: also of a trial of a sweep, which has none by default."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mltricks.report.folders import RECORDS, job_folders


def is_run(folder: Path) -> bool:
    """Whether a folder is the output folder of a run, and not that of a sweep."""
    record = (folder / "config.yaml").is_file() and (folder / "metrics.jsonl").is_file()
    return record and not any((folder / name).exists() for name in RECORDS) and not job_folders(folder)


def single_runs(folder: Path) -> bool:
    """Whether a folder holds runs that were started one by one: Hydra's record of each says so."""
    if not folder.is_dir() or any((folder / name).exists() for name in RECORDS):
        return False
    records = [path / ".hydra" / "hydra.yaml" for path in job_folders(folder)]
    return any("\n  mode: RUN\n" in path.read_text(encoding="utf-8") for path in records if path.is_file())


def write_run(folder: Path, allow: Sequence[str]) -> Path:
    """Write ``report.html`` and ``plots/`` of a run; the test split is measured again with the saved weights.

    Args:
        folder: of the run.
        allow: packages of the user's whose classes the configuration may name.

    Raises:
        ValueError: the run has no summary, its weights are damaged, or it names a package that is not allowed.
    """
    from mltricks.build import build
    from mltricks.evaluate import evaluate
    from mltricks.observers.report import Report
    from mltricks.observers.run_page.write import write_report
    from mltricks.resume import saved_config, trust
    from mltricks.saving import predict_with
    from mltricks.session import BEST, UNUSED
    from mltricks.summary import read_summary
    from mltricks.weights import load_weights

    cfg, summary = saved_config(folder), read_summary(folder / "summary.json")
    if summary is None:
        raise ValueError(f"{folder} has no summary.json: the run has not ended. resume={folder} continues it.")
    trust(cfg, allow, str(folder))
    run = build({**cfg, "init": UNUSED})
    run.cfg = cfg
    report = Report()
    report.start(run, folder, summary.steps)
    if summary.test:
        weights, about = load_weights(folder / BEST)
        predict = predict_with(run, weights, about["own"])
        evaluate(predict, run.objective, run.state, run.data.test, cfg["eval_batch_size"], [report.tested])
    return write_report(run, folder, summary, report.parts)
