# Every target sets up what it needs; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NAME ?= request
MINUTES ?= 30
DATA ?= ../shared/data/online_retail_2009_2010.parquet

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow check format chaos year bench lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "agent99 needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Name one: make PYTHON=python3.12 ...")'
	@echo "setting up $(VENV) (once; about a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all]' --group dev
	@touch $@

setup: $(BIN)/.ready ## make the virtual environment
