# Two commands do everything on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Small models on a few cores: more threads than cores only get in each other's way.
export OMP_WAIT_POLICY ?= passive
export TOKENIZERS_PARALLELISM ?= false
export GRADIO_ANALYTICS_ENABLED ?= False

.PHONY: demo app test check tables fast nightly browser benchmarks clean help

help:            ## What there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/'

demo: $(STAMP)   ## Environment, installation, and a comparison on the toybox: demo/demo.png
	$(BIN)/adhere demo --out demo

app: $(STAMP)    ## The web app on the toybox
	$(BIN)/adhere app

test: $(STAMP) browser check   ## Environment, installation, checks, and all tests but the slow ones
	$(BIN)/python -m pytest -m "not slow and not gpu" -n auto --dist loadfile

fast: $(STAMP)   ## The tests without a browser, as quickly as they go
	$(BIN)/python -m pytest -m "not slow and not gpu and not browser" -x -q

nightly: $(STAMP) browser      ## Everything, slow checks too
	$(BIN)/python -m pytest -m "not gpu"

check: $(STAMP)  ## Format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m docs.tables --check

tables: $(STAMP) ## Write everything that is generated: tables of README and docs, type stub
	$(BIN)/python -m docs.tables

browser:         ## Chromium for the app's tests, where it can be had
	@command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 && \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || \
	  echo "no Chromium here and no way to install it: browser tests will be skipped"

benchmarks: $(STAMP)           ## Cost on this machine; results go to benchmarks/results/
	$(BIN)/python -m benchmarks.flops_meta
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.stacking

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:           ## Remove what the commands above made
	rm -rf demo out runs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
