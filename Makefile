# Each target sets up what it needs: a virtual environment in .venv.
PYTHON ?= python3
BIN := .venv/bin
RUNS := runs/quickstart

.PHONY: run test test-slow lint bench clean

# Six small trainings on real digits, their table and curves, and a picture of
# the four mixes. Under three minutes on two cores.
run: .venv/installed
	$(BIN)/python -m launch.sweep --config=configs/quickstart.py --workdir=$(RUNS)
	$(BIN)/python -m launch.report $(RUNS)
	$(BIN)/python -m jaxmix.gallery --out $(RUNS)/gallery.png

# Twice: on one device, and with eight fake ones where sharding is the subject.
test: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not devices and not slow"
	JAX_NUM_CPU_DEVICES=8 $(BIN)/python -m pytest -m "devices and not slow" tests

test-slow: .venv/installed
	$(BIN)/python -m pytest -m slow

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: .venv/installed
	$(BIN)/python -m benchmarks.mix_ops

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check \
	  -c constraints.txt -e '.[train,plots,dev]'
	touch $@

clean:
	rm -rf .venv runs
