# Each target sets itself up: the virtual environment is made once, and the project is installed
# again only when pyproject.toml or the list of files in reference/ and gpu/ changes.
#
#   make lab PYTHON=python3.12            another Python, 3.11 or newer, for a new environment
#   make lab ARGS='--no-browser'          options for the program that a target runs
#   make bench PEERS=1                    with torchvision, in an environment of its own (6 GB);
#                                         bench-gpu too, which without it meets no target
#   make test-peers PEER='mxnet openvino' without it; MXNet needs a python3.11: PYTHON311=...

PYTHON ?= python3
VENV = .venv
PYTHON311 = python3.11
PEER = torchvision mxnet openvino paddle
# -e: the files of this checkout. Empty: a copy of them, as a user has it.
EDITABLE = -e
ARGS =
# What compute-sanitizer looks at: every kernel, once; the fused ones with each of their tiles.
SANITIZED = tests/test_laws.py tests/test_gpu_fused.py -k "(is_exact and float32 and not reference-) or (gpu_fused and cupy and not laws)"

BIN = $(VENV)/bin
PIP = -m pip --disable-pip-version-check install -qq
# The CUDA that a GPU's driver brings: 13, 12, or nothing where there is no GPU.
CUDA := $(shell nvidia-smi 2>/dev/null | sed -n 's/.*CUDA.*Version: *\([0-9]*\).*/\1/p' | head -n 1)
GPU := $(if $(CUDA),$(if $(filter 12,$(CUDA)),+gpu-cuda12,+gpu))
FILES := $(shell find reference gpu -type f ! -path '*__pycache__*' | LC_ALL=C sort | cksum | cut -d ' ' -f 1)
# An installed set of extras is an empty file named after it: .venv/.installed/tutorials+gpu-123
LAB = $(VENV)/.installed/tutorials$(GPU)-$(FILES)
TEST = $(VENV)/.installed/test+lint$(or $(GPU),+compile)-$(FILES)
BROWSER = $(VENV)/.installed/browser$(GPU)-$(FILES)
RENDER = cd tutorials/site && $(abspath $(BIN))/python -m rendering
TORCH = .venv-torch/.installed/oracle+onnx$(GPU)-$(FILES)
JAX = .venv-jax/.installed/oracle+jax$(GPU)-$(FILES)
# Options of pip, such as an index with PyTorch's build for the CPU; PyPI's brings CUDA, 6 GB.
TORCH_INDEX =

NAME =

.PHONY: help lab test test-gpu test-peers test-torch test-jax test-browser site test-site bench bench-gpu bench-networks bench-networks-gpu findings experiment claims vectors notebooks clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

lab: $(LAB)  ## open the tutorials in JupyterLab
	JUPYTER_CONFIG_PATH=tutorials$${JUPYTER_CONFIG_PATH:+:$$JUPYTER_CONFIG_PATH} \
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/README.md $(ARGS) tutorials

test: $(TEST)  ## ruff, mypy, then the whole suite with every notebook; needs no GPU
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest $(ARGS)

test-gpu: $(TEST)  ## the suite on a GPU, which must be there, and compute-sanitizer on a part of it
	$(BIN)/pytest --require numba --require cupy $(ARGS)
	@if command -v compute-sanitizer >/dev/null; \
	then compute-sanitizer --target-processes all --error-exitcode 1 $(BIN)/pytest $(SANITIZED); \
	else echo "compute-sanitizer is not on the PATH: memory errors were not looked for"; fi

test-peers: $(TEST) $(patsubst %,.venv-%/.installed,$(PEER:torchvision=peers))  ## other libraries against the reference
	PEERS_RECORD=tests/bench/results/peers.json $(BIN)/pytest tests/test_peers*.py tests/test_oracle_peers.py $(ARGS)

test-torch: $(TORCH)  ## gpu.torch, with PyTorch in an environment of its own
	TORCH_RECORD=tests/bench/results/torch.json .venv-torch/bin/pytest tests/pytorch $(ARGS)

test-jax: $(JAX)  ## gpu.jax, with JAX in an environment of its own
	JAX_RECORD=tests/bench/results/jax.json .venv-jax/bin/pytest tests/jax_arrays $(ARGS)

test-browser: $(BROWSER)  ## the widgets of the tutorials in JupyterLab, in a headless Chromium
	BROWSER_RECORD=tests/bench/results/browser.json $(BIN)/pytest tests/browser $(ARGS)

site: $(VENV)/.installed/site-$(FILES)  ## write notebooks, API and sources as pages into build/site/html
	$(RENDER) $(ARGS)

test-site: $(VENV)/.installed/site+browser-$(FILES)  ## the pages of the site in a headless Chromium: links, formulas, a phone
	$(RENDER)
	SITE=build/site/html SITE_RECORD=tests/bench/results/site.json $(BIN)/pytest tests/website $(ARGS)

bench: $(TEST) $(if $(PEERS),.venv-peers/.installed)  ## measure the reference on two CPU threads
	PYTHONPATH=tests $(BIN)/python -m bench $(if $(PEERS),--torchvision .venv-peers/bin/python) $(ARGS)

bench-gpu: $(if $(PEERS),$(TORCH),$(TEST))  ## measure the kernels on a GPU; ARGS=--summary: the targets
	$(if $(PEERS),.venv-torch/bin,$(BIN))/python -m deformable_convnets.gpu.bench $(ARGS)

bench-networks: $(TEST) $(if $(PEERS),$(TORCH))  ## measure the networks: a training step of small ones, and Table 4's
	PYTHONPATH=tests $(BIN)/python -m bench.networks $(ARGS)
	PYTHONPATH=tests $(if $(PEERS),.venv-torch/bin,$(BIN))/python -m bench.full_networks

bench-networks-gpu: $(if $(PEERS),$(TORCH),$(TEST))  ## measure the networks of Table 4 on a GPU
	PYTHONPATH=tests $(if $(PEERS),.venv-torch/bin,$(BIN))/python -m bench.gpu_networks $(ARGS)

findings: $(TEST)  ## what the oracle finds in other libraries, those whose environment is here
	PYTHONPATH=tests $(BIN)/python -m bench.findings $(ARGS)

experiment: $(LAB)  ## train small networks as in a table of the paper: NAME=table1, ARGS=--quick
	cd tutorials && $(abspath $(BIN))/python -m experiments $(NAME) $(ARGS)

claims: $(LAB)  ## write tutorials/CLAIMS.md, and the line numbers of APPENDIX_A.md
	cd tutorials && $(abspath $(BIN))/python -m ledger

vectors: $(VENV)/.installed/oracle-$(FILES)  ## write test vectors for other languages into vectors/
	$(BIN)/python -m deformable_convnets.reference.oracle.vectors $(ARGS)

notebooks: $(LAB)  ## make tutorials/*.ipynb from tutorials/src and run them
	$(BIN)/python tutorials/build.py $(ARGS)

clean:  ## remove all that these targets have made, the environments too
	rm -rf $(VENV) .venv-torch .venv-jax .venv-peers .venv-mxnet .venv-openvino .venv-paddle build vectors *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.installed/%-$(FILES): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("%s is Python %d.%d, and 3.11 or newer is needed: make PYTHON=python3.12" % (sys.executable, v[0], v[1]))'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) $(EDITABLE) '.[$(shell echo '$*' | tr + ,)]'
	@mkdir -p $(@D) && touch $@

.venv-torch/.installed/%-$(FILES): pyproject.toml
	test -x .venv-torch/bin/python || $(PYTHON) -m venv .venv-torch
	.venv-torch/bin/python $(PIP) $(TORCH_INDEX) torch torchvision 'pytest>=8' 'numba-cuda>=0.30.4'
	.venv-torch/bin/python $(PIP) $(EDITABLE) '.[$(shell echo '$*' | tr + ,)]'
	@mkdir -p $(@D) && touch $@

.venv-jax/.installed/%-$(FILES): pyproject.toml
	test -x .venv-jax/bin/python || $(PYTHON) -m venv .venv-jax
	.venv-jax/bin/python $(PIP) 'jax$(if $(CUDA),[cuda$(CUDA)])' 'pytest>=8' 'numba-cuda>=0.30.4'
	.venv-jax/bin/python $(PIP) $(EDITABLE) '.[$(shell echo '$*' | tr + ,)]'
	@mkdir -p $(@D) && touch $@

.venv-peers/.installed: PACKAGES = torch torchvision numpy
.venv-openvino/.installed: PACKAGES = openvino
.venv-mxnet/.installed: PACKAGES = mxnet==1.9.1 numpy==1.23.5
.venv-paddle/.installed: PACKAGES = paddlepaddle
.venv-mxnet/.installed: PEER_PYTHON = $(PYTHON311)
.venv-%/.installed: PEER_PYTHON = $(PYTHON)
.venv-%/.installed:
	test -x $(@D)/bin/python || $(PEER_PYTHON) -m venv $(@D)
	$(@D)/bin/python $(PIP) $(PACKAGES)
	@touch $@
