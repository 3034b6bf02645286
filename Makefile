# Each target makes .venv and installs what it needs; nothing has to be installed by hand but Python and make.
PYTHON ?= $(shell for v in 3.11 3.12 3.13 3.10; do command -v python$$v >/dev/null 2>&1 && python$$v -c '' 2>/dev/null && echo python$$v && break; done)
BIN := .venv/bin
DEMO := demo-out

.PHONY: install demo test lint docs bench clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.10 to 3.13 is needed and was not found; set PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: install
	@rm -rf $(DEMO) && mkdir $(DEMO)
	$(BIN)/albert init $(DEMO)/tf --preset tiny --to tf
	$(BIN)/albert convert $(DEMO)/tf $(DEMO)/hf
	$(BIN)/albert convert $(DEMO)/hf $(DEMO)/albert.npz
	$(BIN)/albert convert $(DEMO)/albert.npz $(DEMO)/tf-again --to tf
	$(BIN)/albert diff $(DEMO)/tf $(DEMO)/tf-again
	$(BIN)/albert inspect $(DEMO)/tf-again

test: install
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: install
	$(BIN)/python docs/generate.py

bench: install
	$(BIN)/python bench/convert.py

clean:
	rm -rf .venv $(DEMO) build dist *.egg-info
