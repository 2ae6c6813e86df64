"""Replicas of one machine: see `replicas.py`, which needs a fresh process."""

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("case", ["hgn", "pixel_hnn", "nhf", "scaled"])
def test_replicas_train_as_one(case, request):
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.replicas", case],
        cwd=request.config.rootpath,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{case} right" in done.stdout
