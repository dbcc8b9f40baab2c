# Two commands for a bare clone: `make demo` and `make test`. Both build .venv on first use.

PYTHON ?= python3
BIN    := .venv/bin
DEMO   ?= reports/demo
# Newer releases of these two are not tested yet; change both together.
TORCH  := torch==2.14.1 torchvision==0.29.1

.PHONY: demo test quick check bench sample clean test-llm

# Stamped by what is asked for, so a change of the dependencies installs again.
.venv/.installed: pyproject.toml Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable '.[offline,dev]'
	touch $@

demo: .venv/.installed
	$(BIN)/profiler run efficientnet_lite0 --layers all --vlm conse --probe synthetic \
	    --concepts visual --out $(DEMO)
	@echo "Open $(CURDIR)/$(DEMO)/report.html in a browser."

test: .venv/.installed check
	$(BIN)/python -m pytest -q

# Everything but what takes more than a few seconds.
quick: .venv/.installed
	$(BIN)/python -m pytest -q -m "not slow"

check: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The report that is kept in the repository.
sample: .venv/.installed
	$(MAKE) demo DEMO=reports/sample

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache
