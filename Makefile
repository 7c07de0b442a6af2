# Two commands matter: `make book` and `make test`. `make help` lists the rest.

SHELL := bash
.SHELLFLAGS := -o pipefail -c

PYTHON ?= python3
# The address of PyTorch's CPU wheels, on Linux, to save gigabytes: see README.md.
TORCH_INDEX ?=

VENV := .venv
BIN := $(VENV)/bin
SITE := _build/html

# One thread a process: the outputs stored in the notebooks must reproduce anywhere.
export OMP_NUM_THREADS = 1
export OPENBLAS_NUM_THREADS = 1
export MKL_NUM_THREADS = 1
export PYTHONHASHSEED = 0
# Jupyter's own switches: no warning about paths or frozen modules in an output.
export JUPYTER_PLATFORM_DIRS = 1
export PYDEVD_DISABLE_FILE_VALIDATION = 1

.DEFAULT_GOAL := help
.PHONY: help book site test notebook lab lint pin measure tensorflow clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

book: site  ## build the site and serve it at the address that it prints
	@$(BIN)/python tools/serve.py $(SITE)

site: $(VENV)/.installed  ## build the site into _build/html, warnings as errors
	@echo "Building the site (about 15 seconds the first time)..."
	@$(BIN)/jupyter-book build . -W -n --keep-going --quiet
	@echo "The site is in $(SITE)."

test: site lint $(VENV)/.browser  ## pass every test: package, notebooks, errata, site
	@echo "Testing: the package, every cell of every notebook, and every page in a browser (some minutes)..."
	@$(BIN)/pytest --nbval --nbval-current-env --nbval-sanitize-with tests/notebooks/sanitize.cfg -n 2 --dist loadfile

notebook: $(VENV)/.installed  ## run one notebook again and store its outputs: make notebook N=chapters/…
	@$(BIN)/python tools/notebook.py $(N)

lab: $(VENV)/.installed  ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab

lint: $(VENV)/.installed  ## check the style of code and notebooks, and the workflows
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/zizmor --quiet --offline .github/workflows

pin: $(VENV)/.installed  ## write requirements.txt anew from requirements.in
	@CUSTOM_COMPILE_COMMAND="make pin" $(BIN)/pip-compile --quiet --strip-extras --allow-unsafe \
	  --no-emit-find-links --no-emit-index-url --no-emit-trusted-host \
	  --output-file requirements.txt requirements.in
	@sed -i.bak 's/+cpu$$//' requirements.txt && rm requirements.txt.bak  # the plain version fits every platform

measure: $(VENV)/.installed $(VENV)/.browser  ## build times and bytes of a page's first view, for the README
	@$(BIN)/python tools/measure.py

tensorflow: $(VENV)-tensorflow/.installed  ## run the documents' programs under TensorFlow, and store what it says
	@$(VENV)-tensorflow/bin/python -m tools.experiments.tensorflow_programs

clean:  ## remove what the commands above made
	rm -rf _build $(VENV) $(VENV)-tensorflow *.egg-info

$(VENV)/.installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.11 ...")'
	@echo "Installing the pinned packages into $(VENV) (once; one to five minutes)..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -r requirements.txt \
	  | { grep -v "already satisfied" || true; }
	@PYTHONWARNINGS=ignore $(BIN)/pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)-tensorflow/.installed: tools/experiments/tensorflow_requirements.txt
	@echo "Installing TensorFlow into $(VENV)-tensorflow (once; some minutes)..."
	@$(PYTHON) -m venv $(VENV)-tensorflow
	@$(VENV)-tensorflow/bin/pip install --disable-pip-version-check --quiet -r $<
	@touch $@

$(VENV)/.browser: $(VENV)/.installed
	@$(BIN)/python tools/browser.py --install
	@touch $@
