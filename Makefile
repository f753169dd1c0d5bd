PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: slow interop lowest newest wheel venv demo test lint types tests docs results clean

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

# Whole trainings, kills, the installed package, the commands and examples of the documentation.
slow: venv
	PYTHONWARNDEFAULTENCODING=1 $(RUN) -m pytest -m slow

# The documentation site, in site/; a broken link is an error.
docs: $(VENV)/docs
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet

$(VENV)/docs: $(VENV)/installed
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

# Pages that are made from docs/results/*.json and from the settings.
results: venv
	$(RUN) tools/render.py

# The tests with the lowest versions that pyproject.toml allows, and with the newest that exist.
lowest: .venv-lowest/installed
	.venv-lowest/bin/python -m pytest $(TESTS)

.venv-lowest/installed: pyproject.toml
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet uv
	.venv-lowest/bin/python -m uv pip install --quiet --python .venv-lowest/bin/python \
		--resolution lowest-direct --editable '.[test]'
	touch $@

newest:
	$(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade --editable '.[test]'
	.venv-newest/bin/python -m pytest $(TESTS)

# The wheel and the source archive; the wheel is installed and run where the checkout is not.
wheel: venv
	rm -rf dist
	$(RUN) -m hatchling build
	$(PYTHON) -m venv --clear .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet dist/jaxreg-*.whl
	cd $(CURDIR)/dist && ../.venv-wheel/bin/jaxreg --version
	cd $(CURDIR)/dist && ../.venv-wheel/bin/jaxreg demo --out ../demo

# Other tools apply our fields. ANTsPy asks for an older NumPy, hence an environment of its own.
interop: .venv-interop/installed
	.venv-interop/bin/python -m pytest -n 0 tests/test_interop.py

.venv-interop/installed: pyproject.toml
	$(PYTHON) -m venv .venv-interop
	.venv-interop/bin/python -m pip install --quiet --editable '.[interop,test]'
	touch $@

clean:
	rm -rf $(VENV) .venv-interop .venv-lowest .venv-newest .venv-wheel dist demo demo_series site
