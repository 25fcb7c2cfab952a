# Two commands do everything on a fresh machine: `make demo` and `make test`.
# `demo` and `app` install what they need and no more; the others what the checks and tests need.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
BASE   := $(VENV)/.base
APP    := $(VENV)/.app
STAMP  := $(VENV)/.installed
PIP    := $(BIN)/python -m pip install --quiet -c constraints.txt
# On Linux the default build of torch brings gigabytes of CUDA libraries. Where there is no GPU, uv
# knows of the CPU build; pip then finds torch installed.
GPU       := [ "$$(uname)" != Linux ] || command -v nvidia-smi >/dev/null 2>&1
CPU_TORCH := { $(PIP) uv && $(BIN)/uv pip install --quiet --python $(BIN)/python --torch-backend cpu \
               -c constraints.txt torch 2>/dev/null; }
# Small models on a few cores: more threads than cores only get in each other's way.
export OMP_WAIT_POLICY ?= passive
export TOKENIZERS_PARALLELISM ?= false
export GRADIO_ANALYTICS_ENABLED ?= False
export NO_MKDOCS_2_WARNING ?= 1

.PHONY: demo app test fast nightly check tables site package floors browser benchmarks gpu clean help

help:            ## What there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/'

demo: $(BASE)    ## Environment, installation, and a comparison on the toybox: demo/demo.png
	$(BIN)/adhere demo --out demo

app: $(APP)      ## The web app on the toybox
	$(BIN)/adhere app

test: $(STAMP) browser check   ## Environment, installation, checks, and all tests but the slow ones
	$(BIN)/python -m pytest -m "not slow and not gpu" -n auto --dist loadfile --durations=15

fast: $(STAMP)   ## The quick tests, in under a minute on two cores
	$(BIN)/python -m pytest -m fast -q -n 2 --dist loadfile

nightly: $(STAMP) browser      ## Everything, slow checks too
	$(BIN)/python -m pytest -m "not gpu"

check: $(STAMP)  ## Format, lint, types, what is generated, the docs site
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m docs.tables --check
	$(BIN)/mkdocs build --strict

tables: $(STAMP) ## Write everything that is generated: tables of README and docs, type stub
	$(BIN)/python -m docs.tables

site: $(STAMP)   ## The docs site: build/site
	$(BIN)/mkdocs build --strict

package: $(STAMP)              ## Wheel and sdist in dist/, installed and tried outside the checkout
	$(BIN)/python -m pytest -q tests/test_packages.py --keep-packages dist

FLOORS := build/floors/bin/python
AT_FLOORS = $(FLOORS) -m uv pip install --quiet --python $(FLOORS) -r build/floors.txt \
            pytest pytest-timeout beartype scipy
floors:          ## The core's tests with the lowest versions that pyproject.toml admits
	test -x $(FLOORS) || $(PYTHON) -m venv build/floors
	$(FLOORS) -m pip install --quiet uv
	$(FLOORS) -m tests.floors lora > build/floors.txt
	$(AT_FLOORS) --torch-backend cpu || { echo "no CPU build of torch at hand: taking the default one"; $(AT_FLOORS); }
	$(FLOORS) -m uv pip install --quiet --python $(FLOORS) --no-deps -e .
	$(FLOORS) -m pytest -q tests/core tests/plugins tests/studio tests/test_cli.py tests/toybox/test_folder.py \
	  tests/pipelines tests/families tests/test_contract.py

browser:         ## Chromium for the app's tests, where it can be had
	@command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 && \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || \
	  echo "no Chromium here and no way to install it: browser tests will be skipped"

gpu: $(STAMP)    ## All that wants a GPU: trainings, studies, speed; stop it and go on
	$(BIN)/python -m benchmarks.battery

benchmarks: $(STAMP)           ## Cost on this machine; results go to benchmarks/results/
	$(BIN)/python -m benchmarks.flops_meta
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.stacking

$(BASE): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(GPU) || $(CPU_TORCH) || echo "no CPU build of torch at hand: taking the default one"
	$(PIP) torch
	$(PIP) -e .
	touch $@

$(APP): $(BASE)
	$(PIP) -e '.[app]'
	touch $@

$(STAMP): $(BASE)
	$(PIP) -e '.[dev]'
	touch $@ $(APP)

clean:           ## Remove what the commands above made
	rm -rf demo out runs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
