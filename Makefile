# make demo: the main job on a folder of pictures.   make test: everything that has to hold.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints-cpu.txt

.PHONY: demo test test-slow setup format bench oracles clean

demo: $(READY)
	$(BIN)/python examples/demo.py

test: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

bench: $(READY)
	$(BIN)/python benchmarks/world_speed.py
	$(BIN)/python benchmarks/train_speed.py
	$(BIN)/python benchmarks/shapes.py
	$(BIN)/python benchmarks/video_seek.py
	$(BIN)/python benchmarks/encode.py
	$(BIN)/python benchmarks/packing.py
	$(BIN)/python benchmarks/attention.py
	$(BIN)/python benchmarks/load_memory.py
	$(BIN)/python benchmarks/precision.py

# timm and open_clip in an environment of their own, for benchmarks/encode.py to compare with.
oracles:
	PYTHON=$(PYTHON) sh benchmarks/oracles.sh

setup: $(READY)

# torch goes in alone and first, so that nothing else can pull a build with CUDA packages.
$(READY): pyproject.toml constraints-cpu.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (once; a few minutes)"
	$(PIP) torch
	$(PIP) -e '.[all,dev]'
	@touch $@

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .venv-oracles demo runs
