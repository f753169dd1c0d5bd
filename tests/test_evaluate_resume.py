"""A run of `jaxreg evaluate` that is killed and started again."""

import json
import os
import subprocess
import sys
import time

import pytest
from evaluation_data import ROOT, constant_field, write_labelled

from jaxreg.io.nifti import write_displacement

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
SCRIPT = """
import sys
import jaxreg.benchmark.run
from jaxreg.cli.app import main
jaxreg.benchmark.run.pair_figure = lambda path, **content: None  # half a second each
sys.exit(main(arguments=["evaluate", *sys.argv[1:]]))
"""


@pytest.mark.slow
def test_a_killed_run_of_thirty_pairs_goes_on_and_gives_the_same_tables(tmp_path):
    manifest, ct = write_labelled(tmp_path)
    pair = json.loads(manifest.read_text(encoding="utf-8"))[1]
    manifest.write_text(json.dumps([pair | {"id": f"p{n}"} for n in range(30)]), encoding="utf-8")
    (tmp_path / "tool").mkdir()
    for n in range(30):
        field = constant_field(ct, [0.1 * n, 0.0, 0.0])
        write_displacement(tmp_path / "tool" / f"p{n}.nii.gz", field)

    def command(out):
        options = ["--manifest", manifest, "--fields", f"tool={tmp_path / 'tool'}", "--out", out]
        return [sys.executable, "-c", SCRIPT, *options]

    def run_to_the_end(out):
        subprocess.run(command(out), check=True, capture_output=True, cwd=tmp_path, env=ENVIRONMENT)

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    records = killed / "manifest" / "cases"
    process = subprocess.Popen(
        command(killed),
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(2400):
            if len(list(records.glob("[!.]*.json"))) >= 12 or process.poll() is not None:
                break
            time.sleep(0.05)
    finally:
        process.kill()  # SIGKILL
        process.wait()
    finished = {path: path.stat().st_mtime_ns for path in records.glob("[!.]*.json")}
    assert 12 <= len(finished) < 60
    half_written = records / ".jaxreg-0123456789ab-p0-tool.json"
    half_written.write_text("{", encoding="utf-8")
    run_to_the_end(killed)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished  # none done again
    assert len(list(records.glob("*.json"))) == 60
    run_to_the_end(whole)
    for name in ("methods", "comparisons", "labels", "cases-initial", "cases-tool"):
        for ending in ("md", "csv", "json"):
            texts = [
                (out / "manifest" / f"{name}.{ending}").read_bytes() for out in (killed, whole)
            ]
            assert texts[0] == texts[1]
