# make run: the demo. make test: everything that is checked. Both set up .venv first.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: run test lint types side-by-side timed clean lock soak screenshots

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

run: $(VENV)/run.stamp
	@$(BIN)/coldharbour run --config config/demo.toml

test: $(VENV)/dev.stamp
	@$(MAKE) --no-print-directory --jobs 2 lint types side-by-side
	@$(MAKE) --no-print-directory timed

side-by-side: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 3 -m "not timed"

# What asserts how long something takes has the machine for itself.
timed: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m timed

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.stamp
	@mkdir -p var/types && ln -sfn ../../plugins var/types/coldharbour_plugins
	$(BIN)/mypy

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: requirements.lock pyproject.toml $(wildcard web-assets/*) | $(BIN)/python
	$(PIP) install --quiet --require-hashes -r requirements.lock
	$(PIP) install --quiet --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/run.stamp
	$(PIP) install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

# The full proof that nothing is lost: 100,000 events, 100 killed ingesters, 10 killed databases, five seeds.
soak: $(VENV)/dev.stamp
	$(BIN)/python benchmarks/soak.py

screenshots: $(VENV)/dev.stamp
	$(BIN)/python docs/screenshots.py

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links --extra embedded --group build pyproject.toml

lock: $(VENV)/dev.stamp
	$(LOCK) --group dev --output-file requirements-dev.lock
	$(LOCK) --constraint requirements-dev.lock --output-file requirements.lock

# Removes what was built and what the demo kept, its database included.
clean:
	rm -rf $(VENV) build dist var/* templates/static/vendor *.egg-info
