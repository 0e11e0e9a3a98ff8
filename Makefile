# make run    installs everything, fetches the models, starts the daemons and holds a first conversation
# make test   installs what the tests need, too, and runs them all
# make check  the whole gate: format, lint, types, import rules, tests, coverage
# make bench  the figures; make bench-settings, longer, what each technique brings and each setting costs
# make fuzz   random inputs by the million; make chaos, kills, faults and hostile peers by the thousand;
#             CAMPAIGN='--times 1' for as many as the tests try, CAMPAIGN='--count 5 --seed 7' for what one wants
# make audit  known vulnerabilities of the dependencies, where there is a network
# make models, make lock, make clean

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
TESTABLE := .venv/testable
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CODE := ipc daemons tools tests
COMPILE := --quiet --upgrade --strip-extras --generate-hashes --allow-unsafe --no-header --no-emit-options \
  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host

# Files of tests side by side, as many as there are cores, in their order: the longest is among the first.
PYTESTS := -n auto --dist loadfile --no-loadscope-reorder
ROUNDS ?= 2
CAMPAIGN ?= --long

.PHONY: run test check bench bench-settings fuzz chaos audit models lock clean

run: models
	@tools/system-packages run
	@$(BIN)/python -m tools.first_run run-output

models: $(INSTALLED)
	@$(BIN)/timmy models pull

test: $(TESTABLE) models
	@tools/system-packages test
	@$(BIN)/python -m pytest $(PYTESTS) $(PYTEST)

check: $(TESTABLE) models
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy $(CODE)
	@tools/system-packages test
	$(BIN)/python -m pytest $(PYTESTS) --cov=ipc --cov=daemons --cov=tools --cov-report=term:skip-covered $(PYTEST)
	$(BIN)/python -m coverage report --include='daemons/*/core.py,ipc/codec.py,ipc/messages.py,ipc/session.py' --fail-under=100

bench: $(TESTABLE) models
	@tools/system-packages bench
	@$(BIN)/python -m tools.bench.record

bench-settings: $(TESTABLE) models
	@tools/system-packages bench
	@$(BIN)/timmy models pull base
	@$(BIN)/python -m tools.bench.record $(ROUNDS)

fuzz: $(TESTABLE)
	@$(BIN)/python -m tests.campaigns fuzz $(CAMPAIGN)

chaos: $(TESTABLE) models
	@tools/system-packages test
	@$(BIN)/python -m tests.campaigns chaos $(CAMPAIGN)

audit: $(TESTABLE)
	@$(BIN)/python -m tests.support.audit

# A virtual environment is made once and brought up to date when what it is made of changes.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else None'
	@echo "making .venv"
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "python3-venv is missing: sudo apt install python3-venv" >&2; exit 1; }

$(INSTALLED): requirements.lock setup.cfg | .venv/bin/python
	@echo "installing into .venv"
	@$(PIP) install --require-hashes -r requirements.lock
	@PYTHONWARNINGS='ignore:Editable installation' $(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(TESTABLE): requirements-dev.lock $(INSTALLED)
	@echo "installing what the tests need"
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

# Run it with the oldest Python there is support for: what newer ones do without does no harm there.
lock:
	@$(PYTHON) -m venv build/lock
	@build/lock/bin/python -m pip install --quiet pip-tools
	@build/lock/bin/pip-compile $(COMPILE) --build-deps-for wheel --output-file requirements.lock setup.cfg
	@build/lock/bin/pip-compile $(COMPILE) --all-extras --all-build-deps --constraint requirements.lock \
	  --output-file requirements-dev.lock setup.cfg

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage run-output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
