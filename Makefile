# The front door. `make help` lists what there is; it needs Python 3.11 to 3.13 and make, nothing else.
# PYTHON names the interpreter that .venv is made with; PIP_ARGS goes to pip; CONSTRAINTS=/dev/null takes the newest of
# everything. On Linux PyPI's torch brings 3.1 GB of CUDA: its CPU build is taken instead where PyTorch's own index
# answers within two seconds, unless GPU=1 is given when .venv is made.

SHELL = /bin/sh
PYTHON ?= python3
PIP_ARGS ?=
CONSTRAINTS ?= constraints.txt
GPU ?= 0
TORCH_CPU ?= https://download.pytorch.org/whl/cpu
# The alarm also ends a name server that hangs, which no timeout of urllib reaches.
ANSWERS = import signal, sys, urllib.request as r; signal.alarm(2); r.urlopen(r.Request(sys.argv[1], method="HEAD"))
VENV = .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
PORT ?= 8000

.PHONY: help book test test-browser test-links figures weights studies freeze deposit wheel address check serve clean
.DEFAULT_GOAL := help

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

book: $(STAMP)  ## compute what has changed and build the book as HTML
	@$(BIN)/noisebook book

figures: $(STAMP)  ## execute the notebooks that something has changed for, and list their figures
	@$(BIN)/noisebook figures

test: $(STAMP)  ## the test suite
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

test-browser: $(STAMP)  ## the built book in Chromium: needs playwright, axe-playwright-python and Debian's chromium
	@$(BIN)/python -c "import playwright, axe_playwright_python" 2>/dev/null || { \
	  echo "make test-browser needs two packages:"; \
	  echo "    $(BIN)/python -m pip install -c constraints.txt playwright axe-playwright-python"; exit 1; }
	@command -v chromium >/dev/null || { \
	  echo "make test-browser needs chromium: apt-get install chromium fonts-dejavu-core fonts-liberation"; exit 1; }
	$(BIN)/python -m pytest -m browser tests/browser $(PYTEST_ARGS)

test-links: $(STAMP)  ## whether what the text links to on other hosts is still there
	$(BIN)/python -m pytest -m network tests/test_links.py $(PYTEST_ARGS)

weights: $(STAMP)  ## train every embedded network again, where its code has changed (hours)
	@$(BIN)/python -m snakemake --cores 2 --rerun-incomplete weights

studies: $(STAMP)  ## run the long studies whose committed results are stale (hours)
	@$(BIN)/python -m snakemake --cores 2 --rerun-incomplete studies

freeze: book  ## keep the claims of this build as those of the release: data/release and a badge
	@mkdir -p data/release
	@for run in build/results/*/; do cp "$$run/claims.json" "data/release/$$(basename "$$run").json"; done
	@cp build/stage/book/images/claims.svg book/images/claims.svg

wheel: $(STAMP)  ## the installable package, in dist
	$(BIN)/python -m build --wheel --no-isolation

deposit: $(STAMP)  ## the folder that a maintainer uploads to Zenodo: weights, model cards, licences, checksums
	@$(BIN)/noisebook weights deposit

address: $(STAMP)  ## write the repository's address of pyproject.toml into the notebooks' cell for Colab
	@$(BIN)/python book/address.py

check: $(STAMP)  ## ruff, mypy, the shape of the notebooks, the configurations, the registry and the task graph
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py tests/test_notebooks.py tests/test_environment.py
	$(BIN)/python -c 'from noisebook import weights; import sys; sys.exit("\n".join(weights.check_registry()) or 0)'
	$(BIN)/python -m snakemake --cores 1 --dry-run --quiet all -- book

serve: $(STAMP)  ## show the built book on this machine, at port PORT
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory build/book/_build/html $(PORT)

clean:  ## remove everything that was built, and keep .venv
	rm -rf build dist .snakemake .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Installed again only when the contents of the two files have changed; a touch costs nothing.
$(STAMP): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "noisebook needs Python 3.11 to 3.13 as $(PYTHON). If you have one under another name:"; \
	  echo "    make PYTHON=python3.12 book"; exit 1; }
	@if [ -f $@ ] && [ "`cat $@`" = "`cat pyproject.toml $(CONSTRAINTS) | cksum`" ]; then touch $@; else \
	  set -e; \
	  echo "Installing into $(VENV) (minutes, once)"; \
	  [ -x $(BIN)/python ] || "$(PYTHON)" -m venv $(VENV); \
	  index=; \
	  if [ "`uname`" = Linux ] && [ "$(GPU)" != 1 ] && { "$(PYTHON)" -c '$(ANSWERS)' $(TORCH_CPU)/torch/; } 2>/dev/null; \
	    then index="--extra-index-url $(TORCH_CPU)"; fi; \
	  $(BIN)/python -m pip install --quiet $$index $(PIP_ARGS) -c $(CONSTRAINTS) -e ".[book,dev]"; \
	  cat pyproject.toml $(CONSTRAINTS) | cksum > $@; \
	fi
