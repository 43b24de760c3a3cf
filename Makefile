# Every target that CI runs is here, and CI runs nothing else (.ci/run).
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
CONFIG ?= configs/dog_to_tiger.yaml

.PHONY: demo test lint type install bench bench-length bench-full-size levers quality quality-quick sweep mini-sd mini-sd-eval clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev,ray]"
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

bench: $(INSTALLED)  ## what both stages cost, beside plain inversion, per-frame editing and the published cost structure
	$(BIN)/python -m benchmarks.inversion
	$(BIN)/python -m benchmarks.speed

bench-length: $(INSTALLED)  ## memory, time a frame and seams of 512 frames beside 64
	$(BIN)/python -m benchmarks.length

bench-full-size: $(INSTALLED)  ## what both stages cost at the size of Stable Diffusion 1.5, on a machine with a GPU
	$(BIN)/python -m benchmarks.full_size

levers: $(INSTALLED)  ## what each thing that makes an edit faster or better does, alone
	$(BIN)/python -m benchmarks.levers

quality: $(INSTALLED)  ## how good edits are, against perfect edits; writes docs/quality.md
	$(BIN)/python -m benchmarks.quality

quality-quick: $(INSTALLED)  ## the same on two edits, printed only
	$(BIN)/python -m benchmarks.quality --quick

sweep: $(INSTALLED)  ## what each setting of the modes does, on other clips; defaults are chosen from its table
	$(BIN)/python -m benchmarks.sweep

mini-sd: $(INSTALLED)  ## trains the small model that ships; hours on two cores, resumes after a kill
	for stage in photographs autoencoder latents tokenizer diffusion controlnet classifier; do \
		$(BIN)/python -m tools.mini_sd.$$stage || exit 1; done
	$(BIN)/python -m tools.mini_sd.export
	$(BIN)/python -m tools.mini_sd.evaluate --write
	$(BIN)/python -m tools.mini_sd.card

mini-sd-eval: $(INSTALLED)  ## its figures, on scenes never trained on
	$(BIN)/python -m tools.mini_sd.evaluate

clean:  ## all but the environment and the training of the small model, which takes hours
	rm -rf outputs trajectories .pytest_cache .mypy_cache .ruff_cache
	! test -d runs || find runs -mindepth 1 -maxdepth 1 -not -name mini_sd -exec rm -rf {} +
