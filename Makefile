# Everything here works on a machine that has Python 3.11, make and gcc, and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check bench soak clean
.DEFAULT_GOAL := test

$(READY): pyproject.toml $(wildcard compiled/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

demo: $(READY)  ## ticker, trades and book of the embedded simulated exchange, as JSON lines
	$(BIN)/okstream stream --venue sim --duration 5 --stats 5 \
	  ticker:BTC-USDT trades:BTC-USDT,ETH-USDT book:BTC-USDT-SWAP | cut -c 1-180

check: $(READY)  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest tests/test_layers.py

# Tests wait a lot, so there are more workers than cores; they start many processes, which should not compile each time.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(16, 2 * os.cpu_count()))')
test: export PYTHONDONTWRITEBYTECODE :=
test: check  ## every check and every test
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

bench: $(READY)  ## speed against a plain script, side by side
	$(BIN)/python -m benchmarks

SECONDS ?= 600
SEED ?=
soak: $(READY)  ## all faults in random order for SECONDS seconds; SEED= repeats one run
	SEED=$(SEED) PYTHONPATH=tests $(BIN)/python -m soak $(SECONDS)

clean:
	rm -rf $(VENV) build dist okstream/*.so *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
