# The two commands of a newcomer: `make up` and `make test`. `make check` is what every change must pass.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODEL ?=
RUN ?= /tmp/tinychat
ARGS ?=

.PHONY: up test soak bench coverage check lint types floors interop fuzz model screenshots image boot lock sbom clean

# Clients and codecs of others, for the tests; without npm those tests skip and say so.
PEERS := $(if $(shell command -v npm),tests/interop/node_modules/.package-lock.json)

tests/interop/node_modules/.package-lock.json: tests/interop/package-lock.json
	npm ci --prefix tests/interop --no-audit --no-fund --loglevel=error

# The attester for TPMs is built on the system's TPM library; where that is missing its tests skip and say so.
TPM := $(shell pkg-config --exists tss2-esys 2>/dev/null && echo ',tpm')

# One stamp a dependency list: a changed list sets the environment up again.
$(VENV)/.ready: pyproject.toml constraints.txt $(wildcard engine/native/src/*)
	@echo "sottovoce: setting up $(VENV), about 1.5 GB, once"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip
	@# The pinned torch first: asked for by name and version it is the small CPU build where one is at hand.
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[engine,dev$(TPM)]'
	@touch $@

up: $(VENV)/.ready
	$(BIN)/sottovoce up $(if $(MODEL),--model '$(MODEL)') $(ARGS)

test: $(VENV)/.ready $(PEERS)
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

# Floods, slow clients and thousands of streams against real processes, for minutes.
soak: $(VENV)/.ready $(PEERS)
	$(BIN)/python -m pytest -m soak --timeout 900 \
		tests/relay tests/server tests/path tests/attestation tests/transparency tests/engine tests/fuzz tests/requirements tests/deploy

interop: $(VENV)/.ready $(PEERS)
	$(BIN)/python -m pytest tests/interop tests/client/test_proxy.py

# Every decoder for FUZZ_SECONDS (20) seconds, under a coverage-guided fuzzer. Not part of `check`.
fuzz: $(VENV)/.ready
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[fuzz]'
	$(BIN)/python -m tests.fuzz.run $(ARGS)

# Every branch of the verifiers, without the published evidence that may lie beside the project.
coverage: $(VENV)/.ready
	$(BIN)/coverage run --branch --source=attestation.verifier -m pytest tests/attestation -q --ignore-glob='*vectors*'
	$(BIN)/coverage report --skip-covered --show-missing --fail-under=100

# The model in the box and its draft, from nothing: about two hours on two cores; call it again to go on.
model: $(VENV)/.ready
	$(BIN)/python -m engine.tinychat.train --out '$(RUN)/model' --compile
	$(BIN)/python -m engine.tinychat.train --out '$(RUN)/draft' --draft-of '$(RUN)/model' --compile
	$(BIN)/python -m engine.tinychat.publish --run '$(RUN)/model' --draft-run '$(RUN)/draft'

# The pictures in docs/images, of the page as it is.
screenshots: $(VENV)/.ready
	$(BIN)/python tests/support/screenshots.py

# The measured image, and what will be measured of it; ARGS=--twice builds it again and compares (docs/image.md).
image: $(VENV)/.ready
	$(BIN)/python -m deploy.image.build $(ARGS)

# Every archive of an installation by hash, and the bill of materials of the base lock.
lock: $(VENV)/.ready
	$(BIN)/python deploy/lock.py
	$(BIN)/python deploy/lock.py --extra engine

sbom: $(VENV)/.ready
	$(BIN)/python deploy/sbom.py

# Boots it under QEMU with all other parties around it, and asks it something.
boot: $(VENV)/.ready
	$(BIN)/python -m deploy.image.boot $(ARGS)

bench: $(VENV)/.ready
	$(BIN)/sottovoce bench wire
	$(BIN)/sottovoce bench path
	$(BIN)/sottovoce bench engine
	$(BIN)/sottovoce bench pipeline

check: lint types floors test

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready
	$(BIN)/mypy attestation client deploy engine issuer relay server sottovoce transparency wire

floors: $(VENV)/.ready
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV)
