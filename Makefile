# Every command sets up what it needs. PYTHON=python3.12 make demo picks another interpreter.
PYTHON ?= python3
VENV ?= .venv
ENV_FILE ?= .env
BIN = $(VENV)/bin
INTEROP = $(VENV)-interop

.DEFAULT_GOAL := help
.PHONY: help demo test run check audit format snapshots interop pins

help:
	@echo "make demo       one call per carrier through the whole path, on this machine"
	@echo "make test       every test"
	@echo "make run        the bridge as the Procfile runs it, settings from $(ENV_FILE)"
	@echo "make check      format, lint, types, audit and tests: what CI runs"
	@echo "make audit      secrets in tracked files, known vulnerabilities of what is installed"
	@echo "make interop    calls answered by Pipecat's own bot and development runner; not part of check"
	@echo "make format     let ruff rewrite what it can"
	@echo "make snapshots  approve the XML as it is now; read the diff before you commit it"
	@echo "make pins       constraints.txt and docs/dependencies.md anew, from what is installed"

demo: $(VENV)/runtime
	$(BIN)/python demo.py

test: $(VENV)/dev
	$(BIN)/python -m pytest
	$(BIN)/python -m pytest -m "faults or fuzz" -n 0 -s

run: $(VENV)/runtime
	@test -f "$(ENV_FILE)" || { echo "$(ENV_FILE) is missing: cp .env.example $(ENV_FILE) and fill it in"; exit 1; }
	@exec env PATH="$(abspath $(BIN)):$$PATH" $(BIN)/dotenv -f "$(ENV_FILE)" run --no-override -- $(shell sed -n 's/^web: //p' Procfile)

check: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m tests.secret_scan
	$(BIN)/python -m tests.audit
	$(BIN)/python -m pytest
	$(BIN)/python -m pytest -m "faults or fuzz" -n 0 -s

audit: $(VENV)/dev
	$(BIN)/python -m tests.secret_scan
	$(BIN)/python -m tests.audit

interop: $(VENV)/dev $(INTEROP)/ready
	INTEROP_PYTHON="$(abspath $(INTEROP))/bin/python" $(BIN)/python -m pytest -m interop -n 0

format: $(VENV)/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

snapshots: $(VENV)/dev
	$(BIN)/python -m pytest -n 0 --snapshot-update

pins: $(VENV)/dev
	$(BIN)/python -m tests.pins

$(VENV)/runtime: requirements.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed, $(PYTHON) is older: make PYTHON=python3.12 ..."; exit 1; }
	@echo "setting up $(VENV), once"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/dev: requirements-dev.txt $(VENV)/runtime
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# Pipecat's pins must not meet ours.
$(INTEROP)/ready: requirements-interop.txt
	@echo "setting up $(INTEROP), once: 600 MB"
	@$(PYTHON) -m venv $(INTEROP)
	@$(INTEROP)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-interop.txt
	@touch $@
