# Every target sets up what it needs; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Of two cores: a test waits as much as it computes.
JOBS ?= 4
NAME ?= request
DEMO ?= events
DATA ?= ../shared/data/online_retail_2009_2010.parquet
SECONDS ?= 60
MINUTES ?= 30
TARGET ?=
ARGS ?=

json := $(if $(filter 1,$(JSON)),--json)
pip := $(BIN)/python -m pip --quiet --disable-pip-version-check
# pyright comes from the wheel, Node.js included: it has nothing to fetch and no news to tell.
pyright := PYRIGHT_PYTHON_IGNORE_WARNINGS=1 PYRIGHT_PYTHON_GLOBAL_NODE=0 $(BIN)/pyright

# Else each of the tests' processes, and each process that they start, compiles every module anew.
unexport PYTHONDONTWRITEBYTECODE

quick := $(BIN)/pytest -n $(JOBS) --dist worksteal --durations=12 --ignore=tests/house

.DEFAULT_GOAL := help
.PHONY: help setup demo year test coverage test-slow chaos faults fuzz soak check format bench lock clean data

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(BIN)/.ready ## make the virtual environment

demo: $(BIN)/.ready ## run a real shop's weeks on a real broker, bus and audit log looking on (DEMO=shop: alone, DEMO=cache: nodes of the cache die)
	@$(BIN)/agent99 demo $(DEMO) $(json) $(ARGS)

year: data $(BIN)/.ready ## run the shop on the whole year (DATA=file names another, DEMO=events looks on)
	@$(BIN)/agent99 demo $(if $(filter command line,$(origin DEMO)),$(DEMO),shop) --data '$(DATA)' $(json) $(ARGS)

test: $(BIN)/.ready ## run the quick tests
	@$(quick) $(ARGS)

coverage: $(BIN)/.ready ## run the quick tests, measured, and hold the coverage gates
	@rm -f .coverage .coverage.*
	-@$(quick) --cov --cov-report= $(ARGS) # what fails is for `make test` to say
	@$(BIN)/python tools/coverage_gate.py

test-slow: $(BIN)/.ready ## run the slow tests: crashes, races, campaigns in short form
	@$(BIN)/pytest -m 'slow and not chaos' --durations=25 -o faulthandler_timeout=900 $(ARGS)

chaos: $(BIN)/.ready ## run every fault campaign at full counts (up to an hour)
	@$(BIN)/pytest -m chaos -o faulthandler_timeout=3600 $(ARGS)

faults: $(BIN)/.ready ## run the fault campaigns, write docs/reference/faults.md anew (COUNTS=full)
	@rm -rf build/faults
	@FAULTS=build/faults $(BIN)/pytest -m 'fault$(if $(filter full,$(COUNTS)),, and not chaos)' -o faulthandler_timeout=900 $(ARGS)
	@$(BIN)/python tools/faults.py build/faults docs/reference/faults.md

fuzz: $(BIN)/.ready ## fuzz what reads the bytes of others (SECONDS=60 each; TARGET=one)
	@$(pip) install --constraint constraints.txt --group fuzz >&2
	@$(BIN)/python fuzz/fuzz.py --seconds $(SECONDS) $(if $(TARGET),--target $(TARGET)) $(ARGS)

soak: $(BIN)/.ready ## load and a fault every minute: nothing may grow (MINUTES=30)
	@$(BIN)/python -m soak.soak --minutes $(MINUTES) $(ARGS)

check: $(BIN)/.ready ## check format, lint, types, house rules and the documents' code
	@$(BIN)/ruff format --check --quiet . || { echo "run: make format" >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(pyright)
	@$(BIN)/pytest -q -n $(JOBS) tests/house

format: $(BIN)/.ready ## format the code and sort the imports
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

bench: $(BIN)/.ready ## run benches/$(NAME).py (NAME=request; JSON=1 prints JSON alone)
	@test -f benches/$(NAME).py || { echo "no bench '$(NAME)'; there are:" $(basename $(notdir $(wildcard benches/[a-z]*.py))) >&2; exit 2; }
	@$(pip) install --constraint constraints.txt --group bench >&2 || echo "not every peer could be installed: its rows say so" >&2
	@$(BIN)/python benches/$(NAME).py $(json) $(ARGS)

lock: ## write constraints.txt anew, from the newest versions that pyproject.toml allows
	@sh tools/lock.sh $(PYTHON)

clean: ## remove what the targets made, the virtual environment included
	@rm -rf $(VENV) .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

data:
	@test -f '$(DATA)' || { echo "no file $(DATA): name the year's data with make year DATA=file" >&2; exit 2; }

# Set-up talks on standard error, so that JSON=1 leaves standard output to the JSON.
$(BIN)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "agent99 needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Name one: make PYTHON=python3.12 ...")'
	@echo "setting up $(VENV) (once; about a minute)" >&2
	@$(PYTHON) -m venv $(VENV) >&2
	@$(pip) install --upgrade 'pip>=25.1' >&2
	@$(pip) install --constraint constraints.txt --editable '.[all]' --group dev >&2
	@touch $@
