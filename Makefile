# `make run` starts a broker; CONTRIBUTING.md explains the rest.

PYTHON ?= python3
BIN := .venv/bin
PYTEST ?=
ARGS ?=
# How many tests go on at a time; those of a file come one after the other.
AT_A_TIME := --dist loadfile --numprocesses

# Whatever the installed package is made from; the mark says that it was, since the last change.
SOURCES := pyproject.toml setup.py $(shell find src -name '*.pyx' -o -name '*.pxd')
INSTALLED := .venv/.installed

.PHONY: run demo test test-clients clients dist test-dist sim faults fuzz sanitize checked lint types bench bench-micro soak peers setup clean

run: setup
	$(BIN)/mq9 serve $(ARGS)

demo: setup
	$(BIN)/python examples/quickstart.py

# Many tests wait for something, so that three are not too many for two processors.
test: setup
	$(BIN)/python -m pytest $(AT_A_TIME) 3 $(PYTEST)

test-clients: clients
	$(BIN)/python -m pytest -m clients $(AT_A_TIME) 2 --durations=12 $(PYTEST)

clients: setup
	$(BIN)/python -m tools.clients

sim: setup
	$(BIN)/python -m tests.simulation $(ARGS)

fuzz: setup
	$(BIN)/python -m pip install --quiet 'atheris>=3,<4'
	$(BIN)/python -m tools.builds fuzzed -m fuzz $(ARGS)

# What is compiled, and has memory of its own to go wrong with.
SANITIZED := tests/fuzz/test_corpus.py tests/fuzz/test_wire.py tests/mailboxes tests/data \
	$(addprefix tests/store/test_,frames.py damage.py conformance.py)

sanitize: setup
	$(BIN)/python -m tools.builds sanitized -m pytest -p no:cacheprovider $(AT_A_TIME) 2 $(or $(PYTEST),$(SANITIZED))

checked: setup
	$(BIN)/python -m tools.builds checked -m pytest -p no:cacheprovider $(PYTEST)

faults: setup
	$(BIN)/python -m tests.faults $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m bench $(ARGS)

bench-micro: setup
	$(BIN)/python -m bench.micro $(ARGS)

soak: setup
	$(BIN)/python -m bench.soak $(ARGS)

dist: setup
	$(BIN)/python -m tools.dist

test-dist:
	$(BIN)/python -m pytest -m dist --durations=3 tests/shipping $(PYTEST)

peers: setup
	$(BIN)/python -m tools.peers

setup: $(INSTALLED)

$(INSTALLED): $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet 'setuptools>=77' 'Cython>=3.1,<4'
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests bench tools -name __pycache__ -type d -prune -exec rm -rf {} +
	find src \( -name '*.so' -o -name '*.egg-info' \) -prune -exec rm -rf {} +
