"""The server of docs/predict.md, run as the page says: many requests at once get the answers alone."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.predict.predictor import Predictor
from pipeline.project import Project
from tests.conftest import REPOSITORY
from tests.pipeline.predict.test_predict import images_of

PAGE = (REPOSITORY / "docs" / "predict.md").read_text("utf-8")
METHOD = "conv3_2.logreg"
THREADS, REQUESTS, SECONDS = 8, 40, 60


def commands() -> list[str]:
    """The ways to start it that the page shows."""
    return [line.partition("#")[0].strip() for line in re.findall(r"^(?:uvicorn|gunicorn) .*$", PAGE, re.M)]


@contextmanager
def running(command: str, folder: Path) -> Iterator[str]:
    """Start a server on a free port of this machine alone; yields its address."""
    name, *options = command.split()
    local = ["--host", "127.0.0.1", "--port", "0"] if name == "uvicorn" else ["--bind", "127.0.0.1:0"]
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY}", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", name, *local, *options],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as server:  # fmt: skip
        try:
            assert server.stdout is not None
            said = ""
            for line in server.stdout:
                said += line
                if found := re.search(r"(?:running on|Listening at:) (http://127\.0\.0\.1:\d+)", line):
                    yield found[1]
                    return
            raise AssertionError(said)
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                raise


@pytest.mark.parametrize("command", commands())
def test_many_requests_at_once_are_answered_as_alone(served: Project, tmp_path: Path, command: str) -> None:
    code = re.search(r"```python\n(import numpy.*?)```", PAGE, re.S)
    assert code is not None
    shown = 'Predictor("clothes", "pool5.logreg")'
    assert shown in code[1]
    ours = f"Predictor({str(served.root)!r}, {METHOD!r})"
    (tmp_path / "photos.py").write_text(code[1].replace(shown, ours))
    bodies = [path.read_bytes() for path in images_of(served)] + [b"no image"]
    alone = [
        {"label": one.label, "probability": one.probability, "problem": one.problem}
        for one in map(Predictor(served, METHOD).predict, bodies)
    ]
    with running(command, tmp_path) as address:

        def ask(number: int) -> bool:
            data = bodies[number % len(bodies)]
            with urllib.request.urlopen(f"{address}/predict", data, timeout=SECONDS) as reply:
                return bool(json.load(reply) == alone[number % len(bodies)])

        with ThreadPoolExecutor(THREADS) as pool:
            assert all(pool.map(ask, range(REQUESTS)))


def test_the_page_shows_three_servers() -> None:
    assert [command.split()[0] for command in commands()] == ["uvicorn", "gunicorn", "gunicorn"]
