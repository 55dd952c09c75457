# Six words: setup check test docs bench demo. Each one sets up .venv first, once.
PYTHON ?= python3
TORCH ?= 2.13.0
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup check test docs bench demo
setup: $(READY)

# The CPU build of torch is a tenth of the size; machines with an NVIDIA GPU take the usual one.
$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	command -v nvidia-smi >/dev/null || $(BIN)/pip install -qq "torch==$(TORCH)+cpu" 2>/dev/null || true
	$(BIN)/pip install -qq "torch==$(TORCH)"
	$(BIN)/pip install -qq -e ".[dev]"
	touch $@

check: $(READY)
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/pytest tests/architecture

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile

docs: $(READY)
	$(BIN)/pip install -qq -e ".[docs]"
	$(BIN)/mkdocs build --strict

bench: $(READY)
	$(BIN)/pip install -qq -e ".[bench]"
	$(BIN)/unprompted benchmark benchmarks/dev.toml

demo: $(READY)
	$(BIN)/unprompted demo -o demo
