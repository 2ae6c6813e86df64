# Every target sets up what it needs, on a machine that has nothing but
# Python 3.10-3.12 with venv. VENV=path keeps the environment elsewhere.

VENV ?= .venv
PYTHON ?= $(shell for name in python3.12 python3.11 python3.10 python3; do \
	$$name -c 'import ensurepip, sys, venv; \
	sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 13))' \
	>/dev/null 2>&1 && echo $$name && break; done)

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
RUFF = $(shell sed -n 's/^RUFF = \["\(.*\)"\].*/\1/p' setup.py)
TYPES = $(shell sed -n 's/^TYPES = \["\(.*\)"\].*/\1/p' setup.py)
DOCS = $(shell sed -n '/^DOCS = /,/^]/s/^    "\(.*\)",$$/"\1"/p' setup.py)
METADATA = setup.py pyproject.toml

.PHONY: help setup demo test notebooks lint docs bench faults clean
.NOTPARALLEL:

help:
	@echo 'make setup      environment $(VENV) with everything the tests need'
	@echo 'make demo       dataset, training, evaluation and report: runs/demo'
	@echo 'make test       the default test run, without the notebooks'
	@echo 'make notebooks  every notebook, on little data'
	@echo 'make lint       ruff check, ruff format --check and mypy'
	@echo 'make docs       the documentation as a site: site/index.html'
	@echo 'make bench      every benchmarks/bench_*.py, one after another'
	@echo 'make faults     kills, full disks, altered files: results/faults.md'
	@echo 'make clean      remove the environment and build leftovers'

setup: $(VENV)/.stamp-test

demo: $(VENV)/.stamp-run
	$(BIN)/hgn-tf demo

test: $(VENV)/.stamp-test
	$(BIN)/python -m pytest -n 2 --dist loadfile

notebooks: $(VENV)/.stamp-test
	$(BIN)/python -m pytest -n 2 -m notebooks tests/test_notebooks.py

lint: $(VENV)/.stamp-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Not --quiet: what is not logged is not counted, and --strict is then in vain.
docs: $(VENV)/.stamp-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.stamp-run
	@set -e; for script in benchmarks/bench_*.py; do \
		echo "== $$script"; $(BIN)/python $$script; done

# The disks that it fills and protects are in a namespace of its own.
faults: $(VENV)/.stamp-test
	unshare --mount --map-root-user $(BIN)/python benchmarks/faults.py

clean:
	rm -rf $(VENV) build dist site *.egg-info \
		.mypy_cache .pytest_cache .ruff_cache

# A stamp is touched last, so an install that was stopped is done again.
$(VENV)/.stamp-venv:
ifeq ($(strip $(PYTHON)),)
	@echo 'No Python 3.10, 3.11 or 3.12 with the venv module was found.' >&2
	@echo 'On Debian or Ubuntu: apt install python3-venv. Another' >&2
	@echo 'interpreter: make PYTHON=/path/to/python3.11 ...' >&2
	@exit 1
else
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade pip
	@touch $@
endif

$(VENV)/.stamp-run: $(VENV)/.stamp-venv $(METADATA)
	@echo 'Installing TensorFlow and the rest into $(VENV): some minutes.'
	$(PIP) install --quiet -e .
	@touch $@

$(VENV)/.stamp-test: $(VENV)/.stamp-venv $(METADATA)
	@echo 'Installing TensorFlow and the rest into $(VENV): some minutes.'
	$(PIP) install --quiet -e '.[test]'
	@touch $@ $(VENV)/.stamp-run

# No TensorFlow: it has no types, and linting waits for nothing else.
$(VENV)/.stamp-lint: $(VENV)/.stamp-venv setup.py
	$(PIP) install --quiet '$(RUFF)' '$(TYPES)' 'numpy>=2.0'
	@touch $@

# The site is read from the source: it waits for no TensorFlow either.
$(VENV)/.stamp-docs: $(VENV)/.stamp-venv setup.py
	$(PIP) install --quiet '$(RUFF)' $(DOCS)
	@touch $@
