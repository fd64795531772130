# SPDX-License-Identifier: Apache-2.0
# Everything installs what it needs; see README.rst.

VENV := .venv
BIN := $(VENV)/bin

.PHONY: help install demo test test-all unit faults soak lint docs bench clean sandbox-down

help:
	@echo "make demo    see it happen on a real Ceph and a real Glance"
	@echo "make test    linters, types and tests, each process on a sandbox of its own"
	@echo "make test-all  the same, with every combination and not a sample"
	@echo "make lint    linters, types and layers only"
	@echo "make unit    the tests that need no daemon"
	@echo "make faults  kill everything in the middle of everything, for long"
	@echo "make soak    6,000 operations at random against what is expected"
	@echo "make docs    the documentation, into doc/build/html"
	@echo "make bench   the benchmarks, into doc/source/benchmarks"
	@echo "make clean   stop the sandbox and remove what was installed"

install:
	@tools/install

demo: install
	@$(BIN)/volume-rbd sandbox demo

lint: install
	@$(BIN)/ruff check volume_rbd tests tools doc/source
	@$(BIN)/mypy
	@$(BIN)/lint-imports --config setup.cfg

unit: install
	@$(BIN)/pytest -q tests/unit

faults: install
	@$(BIN)/pytest -s -m faults -o session_timeout=43200 tests

soak: install
	@VOLUME_RBD_TEST_OPERATIONS=6000 \
	    $(BIN)/pytest -s tests/functional/test_random.py

# Each process has a sandbox of its own, of about 2 GiB of memory.
PYTEST := $(BIN)/pytest -n logical --maxprocesses 4 --no-loadscope-reorder

test: lint docs
	@$(PYTEST) tests

test-all: lint docs
	@$(PYTEST) -m 'not faults' tests

docs: install
	@$(BIN)/sphinx-build -q -W --keep-going -b html doc/source doc/build/html

bench: install
	@$(BIN)/python -W ignore -m tests.benchmark

sandbox-down:
	@if [ -x $(BIN)/volume-rbd ]; then $(BIN)/volume-rbd sandbox down; fi

clean: sandbox-down
	rm -rf $(VENV) .sandbox .cache doc/build *.egg-info .mypy_cache .ruff_cache \
	    .pytest_cache .hypothesis .import_linter_cache
