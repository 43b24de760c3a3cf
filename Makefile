# Every target that CI runs is here, and CI runs nothing else (.ci/run).
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
CONFIG ?= configs/dog_to_tiger.yaml

.PHONY: demo test lint type install clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: $(INSTALLED)  ## a clip in, an edited clip out, on the model that ships
	$(BIN)/python run_preprocess.py $(CONFIG)
	$(BIN)/python run_edit.py $(CONFIG)

test: $(INSTALLED)
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(INSTALLED)
	$(BIN)/mypy

clean:
	rm -rf outputs trajectories runs .pytest_cache .mypy_cache .ruff_cache
