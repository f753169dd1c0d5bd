PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: interop venv demo test lint types tests docs results clean

venv: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

demo: venv
	$(RUN) -m jaxreg demo --out demo

test: lint types tests

lint: venv
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: venv
	$(RUN) -m pyright

tests: venv
	PYTHONWARNDEFAULTENCODING=1 $(RUN) -m pytest

# The documentation site, in site/; a broken link is an error.
docs: $(VENV)/docs
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet

$(VENV)/docs: $(VENV)/installed
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

# Pages that are made from docs/results/*.json and from the settings.
results: venv
	$(RUN) tools/render.py

# Other tools apply our fields. ANTsPy asks for an older NumPy, hence an environment of its own.
interop: .venv-interop/installed
	.venv-interop/bin/python -m pytest -n 0 tests/test_interop.py

.venv-interop/installed: pyproject.toml
	$(PYTHON) -m venv .venv-interop
	.venv-interop/bin/python -m pip install --quiet --editable '.[interop,test]'
	touch $@

clean:
	rm -rf $(VENV) .venv-interop demo demo_series site
