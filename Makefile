# One verb for each chore; continuous integration calls the same (.ci/run).
# Everything is installed into .venv; choose another Python with `make PYTHON=python3.12 ...`.

.DEFAULT_GOAL := help
.PHONY: help install quickstart test lint types imports format proto docs clean

VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
OUT ?= ccm-quickstart
SEED ?= 0
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	"$$python" -c '$(NEW_ENOUGH)' 2>/dev/null && echo "$$python" && break; done)

help:
	@echo 'make quickstart   train, export, verify, serve and adapt an agent on this CPU, in minutes'
	@echo 'make test         all checks: format, lint, types, imports, tests'
	@echo 'make install      only install, into $(VENV)'
	@echo 'make lint | types | imports | format | proto | docs | clean'

install: $(INSTALLED)

$(INSTALLED): pyproject.toml .ci/constraints.txt
	@if [ -z '$(PYTHON)' ] || ! '$(PYTHON)' -c '$(NEW_ENOUGH)'; then \
		echo 'ccm needs Python 3.11 or newer, and none was found here; install one, or name it: make PYTHON=/path/to/python3.12 install' >&2; \
		exit 1; fi
	@'$(PYTHON)' -m venv '$(VENV)' || { \
		echo 'Python could not make a virtual environment; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@echo 'installing into $(VENV); the first time this takes some minutes' >&2
	@'$(BIN)/python' -m pip install --disable-pip-version-check --progress-bar off --quiet -e '.[dev]' -c .ci/constraints.txt
	@touch '$@'

quickstart: $(INSTALLED)
	'$(BIN)/ccm' quickstart --out '$(OUT)' --seed '$(SEED)'

test: lint types imports
	'$(BIN)/python' -m pytest -q -n 2 --dist worksteal

lint: $(INSTALLED)
	'$(BIN)/ruff' format --check .
	'$(BIN)/ruff' check .

types: $(INSTALLED)
	'$(BIN)/mypy'

imports: $(INSTALLED)
	'$(BIN)/lint-imports' --no-cache

format: $(INSTALLED)
	'$(BIN)/ruff' check --fix .
	'$(BIN)/ruff' format .

proto: $(INSTALLED)
	'$(BIN)/python' scripts/generate_proto.py

docs: $(INSTALLED)
	'$(BIN)/python' -m pytest -q tests/docs

clean:
	rm -rf '$(VENV)' build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
