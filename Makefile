# make        environment, then the whole pipeline; ends with a table of results
# make test   environment, then the tests
# make lint   style, types
# make bench  benchmarks, each prints a ratio
# make gpu-check  what needs a GPU, tests and benchmark, in 8 minutes; installs nothing
# make clean  remove the environment; artifacts and caches stay

SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
# On PATH, since DVC runs `python` and would otherwise find the system's
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# The checkout decides what is imported, not what else lies in the user's environment
unexport PYTHONPATH
unexport PYTHONHOME

.PHONY: all pipeline test lint bench gpu-check clean
.DELETE_ON_ERROR:

all: pipeline

pipeline: $(VENV)/.installed
	@if git rev-parse --git-dir >/dev/null 2>&1; then dvc repro; else python cli.py run; fi
	@python cli.py results

test: $(VENV)/.installed
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 pytest --numprocesses 2 --dist worksteal  # one process a core; neighbours share fixtures

lint: $(VENV)/.installed
	ruff check .
	ruff format --check .
	mypy

bench: $(VENV)/.installed
	python -m benchmarks.engines
	python -m benchmarks.threads
	python -m benchmarks.precision
	python -m benchmarks.extract_cpu --without thingsvision
	python -m benchmarks.publish
	python -m benchmarks.memory
	python -m benchmarks.path --every 4
	python -m benchmarks.kernel
	python -m benchmarks.calibration
	python -m benchmarks.compare
	python -m benchmarks.cut
	python -m benchmarks.trial
	python -m benchmarks.report

# For machines that have torch and reach no package index: neither the environment nor the
# project's other tests, with what they need, nor pytest's plug-ins of pyproject.toml.
NEEDED := torch torchvision numpy PIL safetensors rich pytest
GPU_TESTS = $(shell grep -rlF --include='*.py' pytest.mark.gpu tests)

gpu-check:
	@$(PYTHON) -c 'import sys; from importlib.util import find_spec; \
	  missing = [name for name in sys.argv[1:] if not find_spec(name)]; \
	  sys.exit(f"make: {sys.executable} lacks {str(missing)[1:-1]}" if missing else 0)' $(NEEDED)
	timeout 200 $(PYTHON) -m pytest -q -rs -c /dev/null --rootdir . --noconftest --import-mode importlib \
	  -p no:cacheprovider -o markers='gpu: needs a CUDA device' -m gpu $(GPU_TESTS)
	timeout 280 $(PYTHON) -m benchmarks.extract_gpu

clean:
	rm -rf $(VENV)

# A stamp, written last: an interrupted installation is repeated.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "make: Python 3.11 or newer is needed, and $(PYTHON) is $$($(PYTHON) --version 2>&1); name another one: make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "make: this Python has no venv module; on Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	python -m pip install --disable-pip-version-check --quiet --editable '.[dev]'
	@touch $@
