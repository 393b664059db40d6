# From nothing but Python, git and make: every target makes the environment that it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo
DEMO_IMAGES ?= 64
DETECT_IMAGES ?= 16
# A seed that no training and no choice of ours ever saw; the README's table is on its first 1,000 pictures.
DEMO_SEED := 2015
# A folder of JPEGs; without one, pictures are drawn. BENCH holds further options, see `-m benchmarks.compare --help`.
IMAGES ?=
BENCH ?=
# The networks of the tests are so small that a second thread helps none of them; a second process does, and one more
# than there are processors, because tests wait for commands. A module stays in one process, because its tests share
# what they made, and the longest come first.
THREADS = 1
PROCESSES = $(shell n=$$(nproc 2>/dev/null || echo 1); echo $$((n < 4 ? n + 1 : 4)))
# Started processes and the next call read the bytecode, also where the environment says that none is written.
PYTEST = PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=$(THREADS) $(BIN)/pytest --quiet --numprocesses $(PROCESSES) --dist loadscope --no-loadscope-reorder

.PHONY: test test-fast test-tools test-oldest test-pretended-cuda test-other-processors check-cuda coverage golden pictures \
        interop fuzz mutants faults faults-bucket demo demo-detect checkpoints checkpoints-detection bench bench-cuda clean

test: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -m 'not tools'

# Tries out what measures and attacks the package in other targets: benchmarks, rounds of faults, mutants.
test-tools: $(VENV)/.installed-dev
	$(PYTEST) -m tools

# Without what takes long, starts processes or needs Slurm: a minute and a half on two cores. No test here waits, so a
# process more than there are processors would only collect the tests once more.
test-fast: PROCESSES = $(shell n=$$(nproc 2>/dev/null || echo 1); echo $$((n < 4 ? n : 4)))
test-fast: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(PYTEST) -m 'not slow and not processes and not slurm and not tools'

# What can be shown of the way of a batch on a GPU without having one: devices and dtypes, the order of copies and
# reads, the number of operations, capturing and running out of memory. A part of `make test` too.
check-cuda: $(VENV)/.installed-dev
	$(PYTEST) -m cuda_checks

# Which lines of the package no test runs, those of started processes included.
coverage: $(VENV)/.installed-dev
	rm -f .coverage .coverage.*
	-$(PYTEST) --cov --cov-report=
	$(BIN)/coverage report
	$(BIN)/coverage html --directory build/coverage

# Writes the expected texts of `--help` anew; look at the difference before it is committed.
golden: $(VENV)/.installed-dev
	RENEW_GOLDEN=1 $(BIN)/pytest --quiet tests/cli/test_golden_help.py

# The pictures of the README and of docs/protocols.md, from one drawn picture. Protocols whose boxes differ in nothing
# but lengths share one. Most of a file's bytes are the picture behind the boxes, which needs few colours.
DRAWN_PROTOCOLS := googlenet krizhevsky-10 torchvision-ten-crop googlenet-12 inception-299 vgg-150
pictures: $(VENV)/.installed-cpu
	$(BIN)/ensemble-eval demo-data build/crops/val --split val --images 24 --seed $(DEMO_SEED)
	for protocol in $(DRAWN_PROTOCOLS); do \
	  $(BIN)/ensemble-eval crops build/crops/val/heart-marble-berry/val_00000002.JPEG --protocol $$protocol \
	    --out build/crops/$$protocol && \
	  $(BIN)/python -c 'import sys; from PIL import Image; picture = Image.open(sys.argv[1]).convert("RGB"); \
	    picture.quantize(32, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(sys.argv[2], optimize=True)' \
	    build/crops/$$protocol/overview.png docs/protocol-$$protocol.png || exit; \
	done
	$(BIN)/python -c 'from PIL import Image; sheet = Image.open("build/crops/googlenet/sheet.png"); \
	  sheet.thumbnail((1000, 1053)); sheet.save("docs/crops-sheet.jpg", quality=75, optimize=True)'

# With the oldest torch that is promised, in an environment of its own.
test-oldest:
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet --editable '.[cpu,dev]' 'torch==2.11.*' 'torchvision==0.26.*'
	.venv-oldest/bin/pytest --quiet

# Files of other frameworks for the tests, and what those frameworks compute with them, each in an environment of its
# own: some gigabytes. OpenCV is the one that still reads Caffe's files.
INTEROP := build/interop
interop: $(VENV)/.installed-dev
	$(PYTHON) -m venv $(INTEROP)/caffe && $(INTEROP)/caffe/bin/pip install --quiet 'opencv-python-headless<5'
	$(PYTHON) -m venv $(INTEROP)/tensorflow && $(INTEROP)/tensorflow/bin/pip install --quiet tensorflow-cpu
	$(PYTHON) -m venv $(INTEROP)/paddle && $(INTEROP)/paddle/bin/pip install --quiet paddlepaddle setuptools
	$(PYTHON) -m venv $(INTEROP)/onnx && $(INTEROP)/onnx/bin/pip install --quiet onnx onnxruntime
	$(INTEROP)/caffe/bin/python tests/interop/make_caffe.py
	$(INTEROP)/tensorflow/bin/python tests/interop/make_keras.py
	$(INTEROP)/tensorflow/bin/python tests/interop/make_slim.py
	$(INTEROP)/tensorflow/bin/python tests/interop/make_graphs.py
	$(INTEROP)/paddle/bin/python tests/interop/make_paddle.py
	$(INTEROP)/onnx/bin/python tests/interop/make_onnx.py
	mkdir -p $(INTEROP)/full
	INTEROP_WIDTH=1 INTEROP_FILES=$(INTEROP)/full $(INTEROP)/caffe/bin/python tests/interop/make_caffe.py
	INTEROP_WIDTH=1 INTEROP_FILES=$(INTEROP)/full $(INTEROP)/tensorflow/bin/python tests/interop/make_keras.py
	INTEROP_WIDTH=1 INTEROP_FILES=$(INTEROP)/full $(INTEROP)/tensorflow/bin/python tests/interop/make_slim.py
	INTEROP_WIDTH=1 INTEROP_FILES=$(INTEROP)/full $(INTEROP)/paddle/bin/python tests/interop/make_paddle.py
	$(BIN)/python tests/interop/compare.py $(INTEROP)/full

# Two thousand mutated files of weights, five thousand mutated JPEGs, a thousand archives and files of labels.
fuzz: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/runner.py --seed 1

# Small changes to the package, of which the tests must notice 98%; hours on two cores, so PACKAGE=scoring names one.
# No variant of a module is written to this folder.
mutants: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutation/mutants.py --seed 1 $(addprefix --package ,$(PACKAGE))

# Thirty interruptions at random moments and four numbers of ranks must leave the same bytes; a quarter of an hour.
faults: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python tests/distribution/faults.py --rounds 30 --seed 1
	OMP_NUM_THREADS=1 $(BIN)/python tests/distribution/interrupted_detection.py --rounds 15 --seed 1

# 64 workers on a bucket, 100 kills, a server that is killed twice and a proxy that fails: the bytes of one process.
faults-bucket: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python tests/distribution/faults_in_bucket.py --workers 64 --kills 100 --seed 1

demo: $(VENV)/.installed-cpu
	$(BIN)/ensemble-eval demo-data $(DEMO)/val --split val --images $(DEMO_IMAGES) --seed $(DEMO_SEED)
	$(BIN)/ensemble-eval run --models 7 --crops 144 $(DEMO)/val --out $(DEMO)/results --surface
	$(BIN)/ensemble-eval report $(DEMO)/results --data $(DEMO)/val

# Draws pictures with boxes, proposes, and detects with the shipped six; some minutes on two cores.
DETECT := $(DEMO)/detection
demo-detect: $(VENV)/.installed-detection
	$(BIN)/ensemble-eval demo-data $(DETECT)/val --split val --images $(DETECT_IMAGES) --seed $(DEMO_SEED) --boxes
	$(BIN)/ensemble-eval propose $(DETECT)/val --boxes $(DETECT)/val/boxes.json --multibox-boxes 100 --out $(DETECT)/proposals
	$(BIN)/ensemble-eval detect $(DETECT)/val --boxes $(DETECT)/val/boxes.json --proposals $(DETECT)/proposals \
	    --out $(DETECT)/results $$(cd $(DETECT)/val && ls */*.JPEG | head -4 | sed 's/^/--draw /')

# Repeats the training of the shipped seven; about two hours on two cores. Finished members are kept.
checkpoints: $(VENV)/.installed-cpu
	$(BIN)/ensemble-eval demo-data build/train --split train --images 6000 --seed 1
	$(BIN)/ensemble-eval demo-data build/tune --split val --images 600 --seed 2
	$(BIN)/ensemble-eval train manifests/train-demo.toml --out build/checkpoints

# Repeats the training of the region classifiers and the MultiBox; their logs add up to three hours beside other work.
checkpoints-detection: $(VENV)/.installed-cpu
	$(BIN)/ensemble-eval demo-data build/detection-train --split train --images 3000 --seed 101 --boxes
	$(BIN)/ensemble-eval demo-data build/detection-tune --split val --images 300 --seed 102 --boxes
	$(BIN)/ensemble-eval train manifests/train-detection.toml --out build/checkpoints-detection
	$(BIN)/ensemble-eval train manifests/train-multibox.toml --out build/checkpoints-detection

# Side by side with what else one would use, into benchmarks/results.md; an hour on two cores, and they must be idle.
bench: $(VENV)/.installed-bench
	test -n "$(IMAGES)" || $(BIN)/ensemble-eval demo-data build/bench --split val --images 16 --seed $(DEMO_SEED)
	$(BIN)/python -m benchmarks.compare --images $(or $(IMAGES),build/bench) $(BENCH)

# On one GPU beside what bounds it, into benchmarks/results-cuda.md; within eight minutes. BENCH holds options.
bench-cuda: $(VENV)/.installed-cpu
	$(BIN)/python -m benchmarks.cuda $(BENCH)

# All tests with torch made to claim that there are two GPUs, where there is none: what takes one unasked fails.
test-pretended-cuda: $(VENV)/.installed-dev
	PRETEND_CUDA=2 $(PYTEST)

# What learns and what computes scores, with the kernels of other processors: of oneDNN's largest set of instructions,
# the set of torch's own kernels, and the number of threads, each value of one meets each of another. A processor that
# lacks a set takes its own largest. `make -k` goes on after a failure; `make arithmetic-AVX2-avx2-2` is one of the six.
# Kernels that torch's compiler kept from another set would not compile, so each has a cache of its own. Threads that
# wait for work go to sleep, because those of two processes share two processors.
ARITHMETIC := AVX2-default-1 AVX2-avx2-2 AVX512_CORE-default-2 AVX512_CORE-avx2-1 AVX512_CORE_BF16-default-1 \
              AVX512_CORE_BF16-avx2-2
test-other-processors: $(ARITHMETIC:%=arithmetic-%)

arithmetic-%: THREADS = $(word 3,$(subst -, ,$*))
arithmetic-%: $(VENV)/.installed-dev
	ONEDNN_MAX_CPU_ISA=$(word 1,$(subst -, ,$*)) ATEN_CPU_CAPABILITY=$(word 2,$(subst -, ,$*)) GOMP_SPINCOUNT=1000 \
	  TORCHINDUCTOR_CACHE_DIR=$(CURDIR)/build/arithmetic/$* $(PYTEST) --timeout 1200 \
	  tests/training tests/backends tests/engine tests/test_golden_scores.py tests/test_shipped_seven.py

$(VENV)/.installed-dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[cpu,dev]'
	touch $@

# OpenVINO is twice torch's speed on a CPU and of no use beside an NVIDIA GPU.
$(VENV)/.installed-cpu: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[report$$(command -v nvidia-smi >/dev/null || echo ',cpu')]"
	touch $@

$(VENV)/.installed-detection: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[detection,report$$(command -v nvidia-smi >/dev/null || echo ',cpu')]"
	touch $@

$(VENV)/.installed-bench: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[cpu,bench]'
	touch $@

clean:
	rm -rf $(VENV) $(DEMO) build *.egg-info
