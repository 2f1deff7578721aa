# `make demo` and `make test` need Python 3.10 to 3.12 with headers and venv, g++, git and make; `make help` lists the rest.
# Set-up reads PYTHON, MMSHARP_TORCH_INDEX and MMSHARP_MMCV_WHEELS: see docs/installation.md.

SHELL := /bin/sh
.NOTPARALLEL:
.DEFAULT_GOAL := help

DETECTOR ?= yolov3_mobilenetv2
CLASSIFIER ?= resnet18
WORKERS ?= 2

CORRUPTIONS ?= benchmark
SEVERITIES ?= 0 1 3 5

CONFIG = configs/$(1)/$(NETWORK).py
RUN = work_dirs/$(1)$(SUFFIX)
LAST = "$$(cat $(RUN)/last_checkpoint)"
ROBUST = work_dirs/robust$(SUFFIX)
EXPERIMENTS = $(addprefix benchmarks/,bccd_robustness.py adasap_sweep.py adasap_cifar10.py adasap_bccd.py adasap_bccd_sweep.py psap_cifar10.py psap_sweep.py psap_pulses.py csam_cifar10.py csam_sweep.py csam_bccd.py render_records.py)
GRID = --corruptions $(CORRUPTIONS) --severities $(SEVERITIES)

.PHONY: help setup demo classifier test lint types contracts tests bench experiments results docs clean distclean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

setup: ## make .venv complete (at once when it is)
	@sh scripts/set_up.sh

# Started again after an interruption, every command goes on where it was: training from its last checkpoint, the
# robustness grid after its last finished cell.
define MAIN_JOB
	.venv/bin/python tools/dataset_converters/$(DATA).py data/$(DATA)
	.venv/bin/python tools/train.py $(call CONFIG,dense) --work-dir $(call RUN,dense) --resume
	.venv/bin/python tools/train.py $(call CONFIG,magnitude) --work-dir $(call RUN,magnitude) --resume
	.venv/bin/python tools/train.py $(call CONFIG,adasap) --work-dir $(call RUN,adasap) --resume
	.venv/bin/python tools/slim.py $(call CONFIG,magnitude) $(call LAST,magnitude) --out $(call RUN,magnitude)/slim
	.venv/bin/python tools/slim.py $(call CONFIG,adasap) $(call LAST,adasap) --out $(call RUN,adasap)/slim
	.venv/bin/python tools/test_robust.py $(call CONFIG,dense) $(call LAST,dense) --work-dir $(ROBUST)/dense $(GRID)
	.venv/bin/python tools/test_robust.py $(call RUN,magnitude)/slim/config.py $(call RUN,magnitude)/slim/slim.pth --work-dir $(ROBUST)/magnitude $(GRID)
	.venv/bin/python tools/test_robust.py $(call RUN,adasap)/slim/config.py $(call RUN,adasap)/slim/slim.pth --work-dir $(ROBUST)/adasap $(GRID)
	.venv/bin/python tools/test_robust.py --compare $(ROBUST)/dense $(ROBUST)/magnitude $(ROBUST)/adasap --out $(ROBUST)
endef

demo: DATA = digits_voc
demo: NETWORK = $(DETECTOR)_digits-voc
demo: setup ## the main job: data, training, pruning, slimming, robustness, table
	$(MAIN_JOB)

classifier: DATA = digits_folder
classifier: NETWORK = $(CLASSIFIER)_digits
classifier: SUFFIX = _digits
classifier: setup ## the main job with a classifier
	$(MAIN_JOB)

test: lint types contracts tests ## everything that CI runs

lint: setup ## style and format
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .

types: setup ## static types
	.venv/bin/python -m mypy

contracts: setup ## the layering of the imports
	.venv/bin/lint-imports --no-logo

tests: setup ## tests and the examples in the docstrings
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -q -n $(WORKERS) --dist worksteal

bench: setup ## the large tests, and all benchmarks; each prints a table, and writes a record with --record
	.venv/bin/python -m pip install --quiet --constraint requirements/constraints.txt --requirement requirements/benchmarks.txt
	MMSHARP_LARGE=1 OMP_NUM_THREADS=1 .venv/bin/python -m pytest -q -m large
	for script in $(sort $(filter-out $(EXPERIMENTS),$(wildcard benchmarks/*.py))); do .venv/bin/python "$$script" || exit 1; done

experiments: setup ## trainings that compare methods, for hours; MMSHARP_DATA names the data
	.venv/bin/python benchmarks/bccd_robustness.py --record cpu
	.venv/bin/python benchmarks/adasap_training_cost.py --record cpu
	.venv/bin/python benchmarks/adasap_cifar10.py --mixed
	.venv/bin/python benchmarks/adasap_sweep.py --mixed
	for condition in rate decay slow augmented; do .venv/bin/python benchmarks/adasap_sweep.py --condition $$condition || exit 1; done
	.venv/bin/python benchmarks/adasap_bccd_sweep.py
	.venv/bin/python benchmarks/adasap_bccd.py
	.venv/bin/python benchmarks/psap_pulses.py --record cpu
	.venv/bin/python benchmarks/psap_sweep.py
	.venv/bin/python benchmarks/psap_cifar10.py --epochs 8
	.venv/bin/python benchmarks/psap_cifar10.py --epochs 8 --scratch
	.venv/bin/python benchmarks/csam_sweep.py
	.venv/bin/python benchmarks/csam_cifar10.py
	.venv/bin/python benchmarks/csam_bccd.py

results: setup ## every table and figure of the documents anew from the committed records
	.venv/bin/python benchmarks/render_records.py

docs: setup ## check that the links between the documents lead somewhere
	.venv/bin/python scripts/check_links.py README.md CONTRIBUTING.md CHANGELOG.md configs/README.md docs

clean: ## remove what tools leave behind; keep .venv, data and results
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean ## remove also .venv, the generated data and ALL of work_dirs
	rm -rf .venv .setup data/digits_voc data/digits_folder work_dirs
