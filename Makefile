PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: interop venv demo test lint types tests clean

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

# Other tools apply our fields. ANTsPy asks for an older NumPy, hence an environment of its own.
interop: .venv-interop/installed
	.venv-interop/bin/python -m pytest -n 0 tests/test_interop.py

.venv-interop/installed: pyproject.toml
	$(PYTHON) -m venv .venv-interop
	.venv-interop/bin/python -m pip install --quiet --editable '.[interop,test]'
	touch $@

clean:
	rm -rf $(VENV) .venv-interop demo demo_series
