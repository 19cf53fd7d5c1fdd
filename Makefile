# Two commands: `make book` and `make test`. Each installs what it needs into .venv; `make help` lists the rest.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first Python on the path that is new enough; PYTHON=... chooses another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PROFILE ?= laptop
JOBS ?= 2

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)".*/\1/p' lmc/__init__.py)
UV_INSTALL := $(VENV)/bin/uv pip install --compile-bytecode --python $(PY)
# NEWEST=yes takes the newest versions of everything instead of those that results were measured with.
WANTED := $(if $(NEWEST),,-c constraints.txt) -e ".[book,test]"
PINNED := tests/book/test_environment.py::test_this_run_uses_the_constraints

# On Linux, PyPI's torch brings gigabytes of CUDA libraries: without a GPU, take PyTorch's CPU build where it can be had.
CPU_TORCH := $(if $(PIP_FIND_LINKS),,$(shell [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null && echo yes))

OFFERED := $(if $(PIP_FIND_LINKS),--find-links "$(PIP_FIND_LINKS)")

# The campaign needs torch, transformers, timm and scipy only, so it also runs where `make install` did not.
GPU_PY ?= $(if $(wildcard $(PY)),$(PY),python3)
SIZE ?= full
MINUTES ?= 9

.PHONY: help install book test notebooks gpu gpu-inputs twins pictures widgets lint screenshots print links
.PHONY: commit-results bench version wheel archive site clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*  ## (.*)/  make \1\t\2/' | expand -t 24

install: $(STAMP)  ## make .venv and install the package with everything the book and the tests need

$(STAMP): pyproject.toml constraints.txt
	@[ -n "$(PYTHON)" ] || { echo "error: no Python 3.11 or newer found; install one, or name it: make PYTHON=..."; exit 2; }
	@echo "--- install"; rm -f $@; began=$$SECONDS; set -e; \
	$(PYTHON) -m venv $(VENV); \
	$(PY) -m pip install --quiet --disable-pip-version-check uv; \
	if [ -n "$(CPU_TORCH)" ] && $(UV_INSTALL) --torch-backend cpu $(WANTED); then :; else \
	  [ -z "$(CPU_TORCH)" ] || echo "PyTorch's CPU packages cannot be reached; using the default package index"; \
	  $(UV_INSTALL) $(OFFERED) $(WANTED); fi; \
	$(PY) -m lmc.symmetries.stock_libraries; \
	touch $@; echo "install: $$((SECONDS - began)) s"

book: $(STAMP)  ## run the notebooks and render the book: book/_build/html/index.html
	@$(PY) book/make/book.py --profile $(PROFILE) --jobs $(JOBS)

test: $(STAMP)  ## run all tests
	@HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(if $(NEWEST),--deselect $(PINNED))

notebooks: $(STAMP)  ## run the notebooks only (PROFILE=smoke|laptop|gpu|paper, JOBS=2)
	@$(PY) -m lmc reproduce --profile $(PROFILE) --jobs $(JOBS)

gpu:  ## run an item of the GPU campaign, again and again until it is done (ITEM=1..8 or lease, SIZE=full|laptop|smoke, MINUTES=9)
	@PYTHONPATH=. $(GPU_PY) -m lmc.reproduce.experiments $(or $(ITEM),1) --size $(SIZE) --minutes $(MINUTES)

gpu-inputs:  ## write the corpora that an item needs to build/inputs (ITEM=1..8 or lease, SIZE=full|laptop)
	@PYTHONPATH=. $(GPU_PY) -m lmc.reproduce.experiments $(or $(ITEM),1) --size $(SIZE) --prepare

pictures: $(STAMP)  ## draw the pictures that explain again: book/_static/pictures
	@$(PY) book/make/pictures.py

widgets: $(STAMP)  ## compute again what the interactive pictures show, and their stills (needs Chromium)
	@$(PY) book/make/widgets.py && $(PY) book/make/stills.py

twins: $(STAMP)  ## rewrite the .ipynb twins of the notebook sources
	@$(PY) book/make/twins.py

lint: $(STAMP)  ## check style and types
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy lmc book/make

bench: $(STAMP)  ## measure what matching costs, into data/results/bench (ITEM=step|memory|growth|startup|weights|sweeps|merge|choices|rates|eigenbasis)
	@PYTHONPATH=. OMP_NUM_THREADS=1 $(PY) -m lmc.reproduce.experiments.bench $(ITEM)

screenshots: $(STAMP)  ## photograph the rendered book: light, dark and phone (needs Chromium)
	@$(PY) book/make/screenshots.py

print: $(STAMP)  ## the rendered book as one PDF: build/lmc-book.pdf (needs Chromium)
	@$(PY) book/make/printed.py

links: $(STAMP)  ## ask every address that the rendered book links to whether it is still there (needs a network)
	@$(PY) book/make/links.py

commit-results: $(STAMP)  ## copy fresh results to data/results and update what figures.yml expects (PROFILE=laptop)
	@$(PY) -c 'import sys; from lmc.reproduce.results import promote; print(*promote(sys.argv[1]), sep="\n")' $(PROFILE)
	@$(PY) -m lmc.reproduce.expected $(PROFILE)

version:  ## print the version
	@echo $(VERSION)

wheel: $(STAMP)  ## build the wheel into dist, install it into an environment of its own, and run it there
	@rm -rf build/wheel build/lib dist/*.whl; set -e; $(VENV)/bin/uv build --quiet --wheel --out-dir dist $(OFFERED); \
	$(VENV)/bin/uv venv --quiet build/wheel; \
	$(VENV)/bin/uv pip install --quiet --python build/wheel/bin/python $(OFFERED) $(if $(CPU_TORCH),--torch-backend cpu) \
	  -c constraints.txt dist/*.whl; \
	cd build && wheel/bin/lmc families >/dev/null && wheel/bin/python -c 'import lmc; print("it runs:", lmc.__file__)'

archive:  ## the committed sources, the rendered book and its PDF (if made) into dist, with checksums
	@mkdir -p dist; set -e; \
	git archive --format=tar.gz --prefix=lmc-$(VERSION)/ -o dist/lmc-$(VERSION).tar.gz HEAD; \
	tar -czf dist/lmc-book-$(VERSION).tar.gz -C book/_build --transform "s,^html,v$(VERSION)," html; \
	if [ -f build/lmc-book.pdf ]; then cp build/lmc-book.pdf dist/lmc-book-$(VERSION).pdf; fi; \
	cd dist && rm -f SHA256SUMS && sha256sum -- * > SHA256SUMS && cat SHA256SUMS

site:  ## what is published: the rendered book, and beside it those of earlier versions from build/earlier
	@rm -rf build/site; mkdir -p build; cp -r book/_build/html build/site; \
	for old in $$(ls build/earlier/lmc-book-*.tar.gz 2>/dev/null); do tar -xzf $$old -C build/site; done; \
	ls -d build/site build/site/v*/ 2>/dev/null || true

clean:  ## remove what make book and lmc reproduce made; .venv stays
	rm -rf build dist book/_build book/notebooks
