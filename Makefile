# `make` prints the targets. PYTHON is any Python >= 3.11; everything goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench clean

help:  ## print this
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

demo: $(VENV)/ready  ## set up, train on real handwritten digits over 20 clients, write the report
	$(BIN)/fedlens run

test: $(VENV)/ready  ## set up and run the tests
	$(BIN)/python -m pytest

check: $(VENV)/ready  ## lint, types and the house rules, in under a minute
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/house tests/oracle

format: $(VENV)/ready  ## format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/ready  ## side by side with a plain PyTorch loop; medians and ratios
	$(BIN)/python bench/suite.py

clean:  ## remove the environment and caches, never runs
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
