"""What a drive, a network or a limit says: one sentence with the file; what was finished stays."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli import Commands
from features.images import ImageFolder
from pipeline.project import Project
from tests.conftest import REPOSITORY, Cli, refusal

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int failed = 0;
ssize_t read(int descriptor, void *buffer, size_t count) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "read");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length > 0) {
        path[length] = 0;
        int times = atoi(getenv("FLAKY_TIMES"));
        if (strstr(path, getenv("FLAKY_FILE")) && __sync_fetch_and_add(&failed, 1) < times) {
            errno = atoi(getenv("FLAKY_ERROR"));
            return -1;
        }
    }
    return real(descriptor, buffer, count);
}
"""


@pytest.fixture(scope="session")
def flaky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that makes `read` fail, some times, for one file; skips where no compiler makes it."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler to make reading fail with")
    source = tmp_path_factory.mktemp("flaky") / "flaky.c"
    source.write_text(SHIM)
    library = source.with_suffix(".so")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def group(error: BaseException) -> click.Group:
    """The command line with one command, which fails so."""
    commands = Commands("main")

    @commands.command()
    def fail() -> None:
        raise error

    return commands


@pytest.mark.parametrize("named", [True, False])
def test_every_error_of_the_system_is_one_sentence(named: bool) -> None:
    for number in set(errno.errorcode) - {errno.EPIPE}:
        error = OSError(number, os.strerror(number), *(["some file.png"] if named else []))
        done = CliRunner().invoke(group(error), ["fail"])
        assert done.exit_code == 2
        (line,) = done.stderr.splitlines()
        assert os.strerror(number) in line
        assert ("some file.png" if named else "a file") in line
        assert line.partition("; ")[2]  # the remedy


@pytest.mark.parametrize("error", [OSError("no number"), TimeoutError(), MemoryError(), MemoryError("8 GB")])
def test_errors_without_a_number_and_no_memory_are_one_sentence(error: BaseException) -> None:
    done = CliRunner().invoke(group(error), ["fail"])
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert str(error) in done.stderr


def test_a_name_too_long_is_no_missing_image(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File name too long"):
        ImageFolder(tmp_path).image("x" * 300 + ".png", "")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file whose reading fails")
def test_extract_names_the_image_and_goes_on_later(
    prepared: Project, images: Path, broken: Path, cli: Cli
) -> None:
    where = ["--project", prepared.root]
    image = images / "red" / "07.png"
    kept = image.read_bytes()
    image.unlink()
    image.symlink_to("/proc/self/mem")
    said = refusal(cli("extract", *where, "--layer", "pool5:avg", code=2))
    assert str(image) in said
    assert "Input/output error" in said
    image.unlink()
    image.write_bytes(kept)
    cli("extract", *where, "--layer", "pool5:avg")


@pytest.mark.parametrize(
    "number", [errno.ESTALE, pytest.param(errno.ETIMEDOUT, marks=pytest.mark.slow), errno.EIO]
)
def test_what_a_drive_says_once_is_tried_again(
    number: int, flaky: Path, prepared: Project, images: Path, cli: Cli
) -> None:
    where = ["--project", prepared.root]
    image = images / "red" / "07.png"
    shaken = {"LD_PRELOAD": str(flaky), "FLAKY_FILE": "red/07.png", "FLAKY_ERROR": str(number)}
    said = refusal(cli("extract", *where, "--layer", "pixels", code=2, FLAKY_TIMES="1000", **shaken))
    assert str(image) in said
    assert os.strerror(number) in said
    cli("extract", *where, "--layer", "pixels", FLAKY_TIMES="2", **shaken)


@pytest.mark.parametrize(
    "file", ["params.yaml", "artifacts/manifest.csv", "artifacts/weights/provenance.json"]
)
def test_records_that_cannot_be_read_are_named(file: str, flaky: Path, prepared: Project, cli: Cli) -> None:
    shaken = {"LD_PRELOAD": str(flaky), "FLAKY_FILE": file, "FLAKY_ERROR": str(errno.ESTALE)}
    said = refusal(cli("extract", "--project", prepared.root, code=2, FLAKY_TIMES="1000", **shaken))
    assert str(prepared.root / file) in said
    assert os.strerror(errno.ESTALE) in said


def test_a_reader_that_has_gone_is_no_error(project: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, str(REPOSITORY / "cli.py"), "prepare", "--project", str(project)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 128 + 13
