# Each target sets up what it needs: a virtual environment in .venv.
PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --durations 20
RUNS := runs/quickstart
NUMBERS := runs/numbers
TORCH_PYTHON ?= $(BIN)/python
SAVE ?=
# The newest Python that runs here: a version manager may have commands for
# versions that are not installed.
NEWEST_PYTHON ?= $(shell for python in python3.14 python3.13 python3.12 \
  "$$HOME"/.pyenv/versions/3.13*/bin/python3 \
  "$$HOME"/.pyenv/versions/3.12*/bin/python3 $(PYTHON); do \
  if "$$python" -c 'import ensurepip' 2>/dev/null; then \
  echo "$$python"; break; fi; done)
NEWEST := .venv-newest/bin

# The compiler of TPUs is in its own environment: where it is installed, every
# program without JAX_PLATFORMS looks for a TPU.
TPU := JAX_PLATFORMS=cpu .venv-tpu/bin/python

.PHONY: run retrieval test test-all test-newest faults soak lint bench \
  bench-gpu bench-compiled clean

# Trains six small networks on real digits; makes their table, their curves and an
# image of the four mixes. Under three minutes on two cores.
run: .venv/installed
	$(BIN)/python -m launch.sweep --config=configs/quickstart.py --workdir=$(RUNS)
	$(BIN)/python -m launch.report $(RUNS)
	$(BIN)/python -m jaxmix.gallery --out $(RUNS)/gallery.png

# Searches images of handwritten numbers by captions in eleven languages, with a
# text head trained on English captions. Under five minutes on two cores.
retrieval: .venv/demo
	$(BIN)/python -m examples.numbers --out $(NUMBERS)
	$(BIN)/python -m launch.main --config=configs/retrieval_quickstart.py \
	  --config.data.source=$(NUMBERS)/set --workdir=$(NUMBERS)/run
	$(BIN)/python -m launch.export $(NUMBERS)/run
	$(BIN)/python -m jaxretrieval.report --run $(NUMBERS)/run/export \
	  --features $(NUMBERS)/set --images $(NUMBERS)/images --out $(NUMBERS)/report
	@grep '^|' $(NUMBERS)/report/report.md

# Unit tests of everything, and for each trainer one run that is killed and
# resumed. Under five minutes on two cores.
test: .venv/installed
	$(PYTEST) -m "not devices and not slow and not extract and not tpu and not gpu"

# What `make test` leaves out: eight devices (fake ones), whole runs, faults,
# encoders (torch), programs compiled for TPUs. Under 25 minutes on two cores.
test-all: .venv/extract .venv/demo .venv/examples .venv-tpu/installed
	JAX_NUM_CPU_DEVICES=8 $(PYTEST) -m "devices" tests
	$(PYTEST) -m "(slow or extract) and not devices"
	$(TPU) -m pytest --durations 5 -m tpu tests/benchmarks/compiled

# The library alone, with the newest Python here and the newest jax that is allowed
# (constraints.txt has the oldest of both). Under four minutes on two cores.
test-newest: .venv-newest/installed
	$(NEWEST)/python -c 'import jax, sys; print(sys.version, "jax", jax.__version__)'
	$(NEWEST)/python -m pytest -n 2 --dist loadfile --durations 10 \
	  -m "not devices and not slow" --ignore tests/jaxmix/gallery_test.py \
	  --ignore tests/jaxmix/classification --ignore tests/jaxmix/files \
	  tests/jaxmix jaxmix/_src

# Every trial of tests/faults, of which `make test-all` has a few of each kind.
# Under an hour on two cores.
faults: .venv/installed
	FAULTS=full $(BIN)/python -m pytest -n 2 --dist load tests/faults \
	  tests/launch/workdir/lock_test.py tests/launch/shell/console_test.py

# One run with 200 faults, compared with one without.
soak: .venv/installed
	$(BIN)/python -m tests.faults.soak

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# All benchmarks of a CPU, under ten minutes on two cores. SAVE=--save writes
# benchmarks/results/. TORCH_PYTHON is an interpreter with torchvision and timm,
# which need another torch.
bench: .venv/bench
	$(BIN)/python -m benchmarks.train_step --rounds 7 $(SAVE)
	$(BIN)/python -m benchmarks.mix_ops --rounds 9 --torch_python $(TORCH_PYTHON) $(SAVE)
	$(BIN)/python -m benchmarks.retrieval_step --rounds 9 $(SAVE)
	$(BIN)/python -m benchmarks.input_pipeline --rounds 7 --torch_python $(TORCH_PYTHON) $(SAVE)
	$(BIN)/python -m benchmarks.host_loop --rounds 3 --calls 12 $(SAVE)
	$(BIN)/python -m benchmarks.cold_start --rounds 3 $(SAVE)
	$(BIN)/python -m benchmarks.reliability_cost --rounds 3 $(SAVE)

# On a machine with a GPU, in the environment that is active: needs jax, flax,
# optax and torch; installs nothing.
bench-gpu:
	$(PYTHON) -m benchmarks.train_step $(SAVE)
	$(PYTHON) -m benchmarks.mix_ops $(SAVE)
	$(PYTHON) -m benchmarks.retrieval_step $(SAVE)

# What the compilers of TPUs make of mixing: bytes, cycles, memory. Nothing is
# run. SAVE=--save writes benchmarks/results/compiled/. For GPUs see
# benchmarks/README.md.
bench-compiled: .venv-tpu/installed
	$(TPU) -m benchmarks.compiled.mixing --step $(SAVE)

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check \
	  -c constraints.txt -e '.[retrieval,plots,dev]'
	touch $@

.venv-newest/installed: pyproject.toml
	rm -rf .venv-newest
	$(NEWEST_PYTHON) -m venv .venv-newest
	$(NEWEST)/python -m pip install -q --disable-pip-version-check \
	  --upgrade-strategy eager -e . pytest pytest-timeout pytest-xdist scipy optax
	touch $@

.venv-tpu/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-tpu
	.venv-tpu/bin/python -m pip install -q --disable-pip-version-check \
	  -c constraints.txt -e '.[train,tpu]' pytest pytest-timeout pytest-xdist
	touch $@

.venv/demo: .venv/installed
	$(BIN)/python -m pip install -q --disable-pip-version-check \
	  -c constraints.txt -e '.[demo]'
	touch $@

.venv/examples: .venv/installed
	$(BIN)/python -m pip install -q --disable-pip-version-check \
	  -c constraints.txt -e '.[examples]'
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
	rm -rf .venv .venv-newest .venv-tpu runs
