# make train   train on the embedded default; everything needed is installed into $(VENV) first
# make test    the whole suite
# make test-gpu   the tests that say something about CUDA, on the GPU (16 cores, one GPU); failures.txt names what fails
# make test-simulated   the same on a simulated accelerator: tensors on the wrong device show without a GPU
# make allpairs   every pair of techniques, and every technique on every kind of input; ends with a report
# make evidence   measure what every option is worth, for hours; a stopped call goes on where it was
# make docs    the documentation as a site, in site/index.html; broken links are errors
# make lint    style and types
# Pass options as ARGS="technique=mixup", another interpreter as PYTHON=python3.12.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
WORKERS ?= 3

PIP = $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
RUN = $(VENV)/bin/python -m

.PHONY: train test test-gpu test-simulated allpairs evidence docs lint
.DELETE_ON_ERROR:

train: $(VENV)/.installed
	$(RUN) mltricks $(ARGS)

# one thread a worker, so that sums do not depend on the machine; three workers on two cores, since many tests wait for
# processes that they start, stop and kill; the files in their order, as those of few and long tests would come last
# otherwise, and one worker would wait for the others
test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(RUN) pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-gpu: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(RUN) pytest --device cuda -n 16 --dist worksteal -vv --failures failures.txt $(ARGS)

test-simulated: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(RUN) pytest --device simulated -n $(WORKERS) $(ARGS)

allpairs: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(RUN) pytest -m allpairs -n $(WORKERS) tests/test_pairs.py tests/test_kinds.py $(ARGS)

evidence: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(VENV)/bin/python benchmarks/costs.py --write
	OMP_NUM_THREADS=1 $(VENV)/bin/python benchmarks/evidence.py $(ARGS)

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict --quiet

lint: $(VENV)/.installed-dev
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# a stamp is newer than what it was made from, so that a second call installs nothing
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e .
	touch $@

$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e ".[docs]"
	touch $@ $(VENV)/.installed

# lightly's losses are oracles of ours; they do not use the pytorch_lightning that it declares
$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e ".[test]"
	$(PIP) --no-deps lightly lightly-utils
	touch $@ $(VENV)/.installed $(VENV)/.installed-docs

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e ".[test,dev]"
	touch $@ $(VENV)/.installed $(VENV)/.installed-docs $(VENV)/.installed-test
