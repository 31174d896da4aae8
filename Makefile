# Each target sets up what it needs: a virtual environment in .venv.
PYTHON ?= python3
BIN := .venv/bin
RUNS := runs/quickstart
NUMBERS := runs/numbers
TORCH_PYTHON ?= $(BIN)/python
SAVE ?=

.PHONY: run retrieval test test-extract test-slow faults soak lint bench bench-gpu clean

# Six small trainings on real digits, their table and curves, and a picture of
# the four mixes. Under three minutes on two cores.
run: .venv/installed
	$(BIN)/python -m launch.sweep --config=configs/quickstart.py --workdir=$(RUNS)
	$(BIN)/python -m launch.report $(RUNS)
	$(BIN)/python -m jaxmix.gallery --out $(RUNS)/gallery.png

# Pictures of handwritten numbers, found by captions in eleven languages: a text
# head trained on English ones. Under five minutes on two cores.
retrieval: .venv/demo
	$(BIN)/python -m examples.numbers --out $(NUMBERS)
	$(BIN)/python -m launch.main --config=configs/retrieval_quickstart.py \
	  --config.data.source=$(NUMBERS)/set --workdir=$(NUMBERS)/run
	$(BIN)/python -m launch.export $(NUMBERS)/run
	$(BIN)/python -m jaxretrieval.report --run $(NUMBERS)/run/export \
	  --features $(NUMBERS)/set --images $(NUMBERS)/pictures --out $(NUMBERS)/report
	@grep '^|' $(NUMBERS)/report/report.md

# Twice: on one device, and with eight fake ones where sharding is the subject.
test: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not devices and not slow and not extract"
	JAX_NUM_CPU_DEVICES=8 $(BIN)/python -m pytest -n 2 --dist loadfile -m "devices and not slow" tests

# Encoders: with torch and transformers.
test-extract: .venv/extract
	$(BIN)/python -m pytest -m "extract and not slow"

test-slow: .venv/extract .venv/demo
	$(BIN)/python -m pytest -m slow

# Every trial of tests/faults, of which `make test` has a few of each kind. Under
# an hour on two cores.
faults: .venv/installed
	FAULTS=full $(BIN)/python -m pytest -n 2 --dist load tests/faults

# One run with 200 faults beside one with none.
soak: .venv/installed
	$(BIN)/python -m tests.faults.soak

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# Everything that a CPU can show, under ten minutes on two cores. SAVE=--save
# writes benchmarks/results/; TORCH_PYTHON is an interpreter with torchvision and
# timm, which need another torch.
bench: .venv/bench
	$(BIN)/python -m benchmarks.train_step --rounds 7 $(SAVE)
	$(BIN)/python -m benchmarks.mix_ops --rounds 9 --torch_python $(TORCH_PYTHON) $(SAVE)
	$(BIN)/python -m benchmarks.retrieval_step --rounds 9 $(SAVE)
	$(BIN)/python -m benchmarks.input_pipeline --rounds 7 --torch_python $(TORCH_PYTHON) $(SAVE)
	$(BIN)/python -m benchmarks.host_loop --rounds 3 --calls 12 $(SAVE)
	$(BIN)/python -m benchmarks.cold_start --rounds 3 $(SAVE)
	$(BIN)/python -m benchmarks.reliability_cost --rounds 3 $(SAVE)

# On a machine with a GPU, in the environment that is there: jax, flax, optax and
# torch are needed, nothing is installed.
bench-gpu:
	$(PYTHON) -m benchmarks.train_step $(SAVE)
	$(PYTHON) -m benchmarks.mix_ops $(SAVE)
	$(PYTHON) -m benchmarks.retrieval_step $(SAVE)

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check \
	  -c constraints.txt -e '.[retrieval,plots,dev]'
	touch $@

.venv/demo: .venv/installed
	$(BIN)/python -m pip install -q --disable-pip-version-check \
	  -c constraints.txt -e '.[demo]'
	touch $@

.venv/bench: .venv/installed
	$(BIN)/python -m pip install -q --disable-pip-version-check \
	  -c constraints.txt -e '.[bench]'
	touch $@

.venv/extract: .venv/installed
	$(BIN)/python -m pip install -q --disable-pip-version-check \
	  -c constraints.txt -e '.[extract]'
	touch $@

clean:
	rm -rf .venv runs
