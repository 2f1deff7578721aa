# `make demo` and `make test` need nothing but Python 3.10 to 3.12, g++, git and make; `make help` lists the rest.
# Set-up reads PYTHON, MMSHARP_TORCH_INDEX and MMSHARP_MMCV_WHEELS: see docs/installation.md.

SHELL := /bin/sh
.NOTPARALLEL:
.DEFAULT_GOAL := help

DETECTOR ?= retinanet_r18
WORKERS ?= 2

DATA := data/digits_voc
WORK := work_dirs
VARIANTS := dense magnitude adasap

.PHONY: help setup demo test lint types contracts tests bench docs clean distclean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

setup: ## make .venv complete (at once when it is)
	@sh scripts/set_up.sh

test: lint types contracts tests ## everything that CI runs

lint: setup ## style and format
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .

types: setup ## static types
	.venv/bin/python -m mypy

contracts: setup ## the layering of the imports
	.venv/bin/lint-imports --no-logo

tests: setup ## tests and the examples in the docstrings
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -q -n $(WORKERS)

bench: setup ## all benchmarks; each prints a table and writes a record
	for script in benchmarks/*.py; do .venv/bin/python "$$script" || exit 1; done

docs: setup ## check that the links between the documents lead somewhere
	.venv/bin/python scripts/check_links.py README.md CONTRIBUTING.md CHANGELOG.md docs

clean: ## remove what tools leave behind; keep .venv, data and results
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean ## remove also .venv, the generated data and the results
	rm -rf .venv .setup $(DATA) $(WORK)
