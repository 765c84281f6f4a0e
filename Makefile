# make demo: label, index and search the example images.   make test: everything that must hold.
PYTHON ?= python3
WORKERS ?= auto
BIN := .venv/bin
DEMO := .venv/.demo
ALL := .venv/.all
TYPES := .venv/.types
# One worker runs all tests of a file, so that what they share is made once; files begin in alphabetical order.
TEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints-cpu.txt

.PHONY: demo test test-slow setup format bench oracles clean

demo: $(DEMO)
	$(BIN)/python examples/demo.py

# Types are checked while the tests run: that is work for one core only. Its findings, if any, are printed last.
test: $(ALL)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/basedpyright > $(TYPES) 2>&1 & types=$$!; $(TEST); tests=$$?; wait $$types || { cat $(TYPES); exit 1; }; exit $$tests

test-slow: $(ALL)
	$(TEST) -m slow --hypothesis-profile default

bench: $(ALL)
	for script in benchmarks/*_speed.py benchmarks/startup.py benchmarks/shapes.py benchmarks/video_seek.py \
		benchmarks/encode.py benchmarks/reading.py benchmarks/packing.py benchmarks/attention.py \
		benchmarks/load_memory.py benchmarks/assistant_memory.py benchmarks/precision.py \
		benchmarks/plm.py benchmarks/serve_load.py benchmarks/search_server.py; do $(BIN)/python $$script || exit 1; done

# timm and open_clip in an environment of their own; benchmarks/encode.py compares with them.
oracles:
	PYTHON=$(PYTHON) sh benchmarks/oracles.sh

setup: $(ALL)

# The demo needs the core and video. torch is installed first and alone, so that no dependency can pull in a CUDA build.
$(DEMO): pyproject.toml constraints-cpu.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (once)"
	$(PIP) torch
	$(PIP) -e '.[video]'
	@touch $@

$(ALL): $(DEMO)
	@echo "installing what the tests need (once; a few minutes)"
	$(PIP) -e '.[all,dev]'
	@touch $@

format: $(ALL)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .venv-oracles demo runs
