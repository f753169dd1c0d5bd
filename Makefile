PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: venv demo test lint types tests clean

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

clean:
	rm -rf $(VENV) demo
