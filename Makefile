# One command each; every target makes its own .venv first, once, and again when pyproject.toml changes.
#
#   make demo    a language model from raw text, an assistant, two files
#   make test    the tests
#   make lint    format and lint
#   make bench   the measurements in benchmarks/, in their quick form
#   make docs    help pages and docs/cli.md, from the code
#   make clean   remove .venv, caches and the demo

# The first Python that is new enough; choose another with: make PYTHON=python3.12 test
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$python; break; }; \
    done)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --retries 10 --timeout 60 install --progress-bar off

export PYTHONUNBUFFERED := 1
export PIP_ROOT_USER_ACTION := ignore

.PHONY: help demo test lint bench docs clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' Makefile

demo: $(VENV)/.installed
	$(BIN)/twofold create --output demo

# Small models on many threads are slower than on one: a test process on each core, at most 8, with one thread each.
test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# A benchmark that needs nothing but the repository takes --quick; the others say what they need.
bench: $(VENV)/.installed-test
	@set -e; for script in benchmarks/*.py; do \
	    if grep -q -e '"--quick"' -e 'quick: bool' $$script; then \
	        echo "== $$script --quick"; $(BIN)/python $$script --quick; \
	    else \
	        echo "== $$script is run by hand: see its first lines"; \
	    fi; \
	done

docs: $(VENV)/.installed
	$(BIN)/python -m twofold.cli.reference

clean:
	rm -rf $(VENV) build dist demo *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Twofold needs Python 3.11 or newer, and none was found. Install one, or name it:" \
	    "make PYTHON=/path/to/python3.12 test" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than" \
	    "Python 3.11. Name a newer one: make PYTHON=/path/to/python3.12 test" >&2; exit 1; }
	@echo "== making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); echo "Cannot make $(VENV). On Debian and Ubuntu:" \
	    "apt install python3-venv" >&2; exit 1; }

# torch goes first, by itself and pinned, so that nothing else chooses another build of it.
# Only pip 25.1 and newer know dependency groups.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "== installing into $(VENV): pip"
	@$(PIP) --quiet 'pip>=25.1'
	@echo "== installing into $(VENV): torch 2.13.0 (the large one: some minutes the first time)"
	@$(PIP) --quiet torch==2.13.0
	@echo "== installing into $(VENV): twofold"
	@$(PIP) -qq --editable .
	@touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	@echo "== installing into $(VENV): what $* needs"
	@$(PIP) --quiet --group $*
	@touch $@
