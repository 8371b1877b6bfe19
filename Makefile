# Two commands on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
OUTPUT ?= out/demo
CORES ?= 2
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test check format clean

help:
	@echo "make demo    install into $(VENV), run the whole chain on the embedded phantom, print where the report is"
	@echo "make test    install into $(VENV), run the checks and every test"
	@echo "make check   formatting, types, import rules and dependencies only"
	@echo "make format  format the sources"

NATIVE := CMakeLists.txt $(wildcard stages/flow/native/*.cpp stages/flow/native/*.hpp)

$(STAMP): requirements.lock pyproject.toml $(NATIVE)
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install Python 3.11 or newer (Debian: apt install python3 python3-venv)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is `$(PYTHON) -V`: needed is Python 3.11 or newer; try make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "the venv module is missing (Debian: apt install python3-venv)"; exit 1; }
	@command -v $${CXX:-c++} >/dev/null || { echo "no C++ compiler ($${CXX:-c++}) was found: the flow solver is compiled on installation (Debian: apt install g++; macOS: xcode-select --install; or set CXX)"; exit 1; }
	@echo "== creating the virtual environment $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "== installing PyTorch (first, so that nothing else chooses its build)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@echo "== installing the pinned packages of requirements.lock (some minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: $(STAMP)
	@echo "== the whole chain on the embedded head phantom, into $(OUTPUT)"
	@$(BIN)/ct2flow demo --output $(OUTPUT) --cores $(CORES)

test: check
	@echo "== tests"
	@$(BIN)/python -m pytest --numprocesses $(CORES) --dist loadfile

check: $(STAMP)
	@echo "== checks: format, lint, types, import rules, dependencies, workflow"
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/deptry .
	@$(BIN)/snakefmt --check workflows

format: $(STAMP)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
	@$(BIN)/snakefmt workflows

clean:
	rm -rf $(VENV) out build dist
