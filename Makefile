# The two commands of a newcomer: `make up` and `make test`. `make check` is what every change must pass.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODEL ?=
ARGS ?=

.PHONY: up test check lint types floors interop model clean

# One stamp a dependency list: a changed list sets the environment up again.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip
	@# The pinned torch first: asked for by name and version it is the small CPU build where one is at hand.
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[engine,dev]'
	@touch $@

up: $(VENV)/.ready
	$(BIN)/sottovoce up $(if $(MODEL),--model '$(MODEL)') $(ARGS)

test: $(VENV)/.ready
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: lint types floors test

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready
	$(BIN)/mypy attestation client engine issuer relay server sottovoce transparency wire

floors: $(VENV)/.ready
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV)
