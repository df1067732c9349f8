"""Commands in processes of their own that begin with torch and its like imported.

A command of a second pays three more for its imports, and the suite runs hundreds. So one
process (`python -m tests.warm`, started anew, not forked from pytest) imports other
people's libraries, none of this project's modules, and forks for each command. What is
read when Python or a library starts (PYTHONPATH, LD_PRELOAD, OMP_NUM_THREADS) is as it
was when that process began: `tests.conftest` starts a new Python where a test sets such.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

LIBRARIES = (
    "click", "rich.console", "rich.table", "rich.progress", "pydantic", "ruamel.yaml", "numpy", "scipy.stats",
    "torch", "safetensors.torch", "zarr", "numcodecs", "dask.array", "joblib", "jinja2", "threadpoolctl",
    "numba", "PIL.Image", "sklearn.svm", "sklearn.linear_model", "sklearn.neighbors", "sklearn.pipeline",
    "matplotlib.figure", "dvc.cli", "dvc.repo",
)  # fmt: skip
OWN = ("PENULTIMATE_", "PYTEST_", "PATH")
SECONDS = 900  # then a command is killed by SIGALRM; the limit of its test is met before


class Warm:
    """The process that forks for each command; `close` ends it."""

    def __init__(self, repository: Path) -> None:
        self.began = self.read_at_start(os.environ)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm"],
            cwd=repository, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    @staticmethod
    def read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
        """Leave out what no library reads when it starts."""
        return {name: value for name, value in environment.items() if not name.startswith(OWN)}

    def serves(self, environment: Mapping[str, str]) -> bool:
        """Whether a command with this environment would begin as this process did."""
        return self.process.poll() is None and self.read_at_start(environment) == self.began

    def run(
        self, command: Sequence[str], cwd: Path, environment: Mapping[str, str]
    ) -> "subprocess.CompletedProcess[str]":
        """Run `command`, a script and its arguments, as `subprocess.run` does."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            outputs = [Path(folder) / name for name in ("stdout", "stderr")]
            order = [list(command), str(cwd), dict(environment), [str(path) for path in outputs]]
            try:
                print(json.dumps(order), file=self.process.stdin, flush=True)
                code = int(self.process.stdout.readline())
            except BaseException:  # a test's time is over: the answer must not be taken for the next one's
                self.process.kill()
                raise
            said = [path.read_text("utf-8") for path in outputs]
        return subprocess.CompletedProcess(command, code, *said)

    def close(self) -> None:
        """Let it end."""
        self.process.communicate()


def serve() -> None:
    """Fork for each line of stdin; answer with the exit code."""
    end = End()
    atexit.register(end)  # before any library registers something: it runs last
    for name in LIBRARIES:
        with contextlib.suppress(ModuleNotFoundError):  # numba has no wheel for some
            importlib.import_module(name)
    gc.freeze()  # a collection in a fork would copy every page
    answers = os.dup(1)
    for line in sys.stdin:
        command, cwd, environment, outputs = json.loads(line)
        child = os.fork()
        if not child:
            os.close(answers)
            become(outputs, cwd, environment)
            end.code = run_script(command)
            return
        _, status = os.waitpid(child, 0)
        os.write(answers, f"{os.waitstatus_to_exitcode(status)}\n".encode())


class End:
    """A process's end without taking its libraries apart, which is slow."""

    code = 0

    def __call__(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self.code)


def run_script(command: Sequence[str]) -> int:
    """Run a script as Python does; returns its exit code."""
    sys.argv, sys.path[0] = list(command), str(Path(command[0]).parent)
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
            return 1
        return int(stop.code or 0)
    except BaseException:  # noqa: BLE001 - as Python itself does
        traceback.print_exc()
        return 1
    return 0


def become(outputs: Sequence[str], cwd: str, environment: dict[str, str]) -> None:
    """Put a new process's streams, folder and environment in place of those that were inherited."""
    signal.alarm(SECONDS)
    for descriptor, path in enumerate((os.devnull, *outputs)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)


if __name__ == "__main__":
    serve()
