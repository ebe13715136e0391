# A fresh machine needs Python 3.11 or newer and make; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin


.PHONY: demo test test-slow zoo reference docs check format clean browser-deps pictures soak fuzz matrix

# Where an environment forbids Python to keep what it compiles (container images do), each of the processes that the tests
# start would compile PyTorch anew: 15 s instead of 5 s.
unexport PYTHONDONTWRITEBYTECODE

# Of the twenty thousand files that arrive, a fraction is ever imported, and compiled then: not all of them here.
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --editable ".[dev]"
	touch $@

# What a user does with a model of their own, on the bundled one, within eight minutes on two cores.
demo: .venv/installed
	$(BIN)/python studies/digits/make_data.py
	$(BIN)/paretoprune search studies/digits/study.yaml name=demo search.trials=10 search.hours=0.07 recover.epochs=1
	$(BIN)/paretoprune status runs/prune/demo
	$(BIN)/paretoprune report runs/prune/demo
	$(BIN)/paretoprune pick runs/prune/demo --max latency_ms=90%
	$(BIN)/paretoprune export runs/prune/demo:pick format=onnx

# A file stays with one worker, so that what its tests share is made once; the longest files begin (tests/conftest.py).
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: .venv/installed
	$(PYTEST) --durations=10

# Most of the Ray tests, and the tutorial typed from beginning to end: minutes more.
test-slow: .venv/installed
	$(PYTEST) -m slow

# The tests of the page drive a Chromium; without one they are skipped and say so.
browser-deps: .venv/installed
	command -v chromium || command -v chromium-browser || apt-get install --yes chromium || $(BIN)/python -m playwright install --with-deps chromium

# The pictures of the documentation, drawn by the driver of the tests from a finished run: make pictures RUN=runs/prune/digits
pictures: .venv/installed
	$(BIN)/python docs/pictures.py $(RUN)

# Coordinators and workers are killed for as long as one likes: make soak KILLS=200, or make soak MINUTES=480
soak: .venv/installed
	$(BIN)/python benchmarks/soak.py $(if $(MINUTES),--minutes $(MINUTES),--kills $(or $(KILLS),200))

# Random studies and command lines: none may end as an internal error.
fuzz: .venv/installed
	$(BIN)/python benchmarks/fuzz.py --minutes $(or $(MINUTES),10)

# The core of the tests with each release of Ultralytics that docs/versions.md names, or with others:
# make matrix RELEASES="8.3.200 8.4.100". Each has an environment of its own that borrows PyTorch and the rest from .venv,
# a few megabytes, and settings of its own. Old releases warn of new PyTorch; that is theirs.
RELEASES ?= $(shell $(PYTHON) -c "from ultralytics_versions.tested import TESTED; print(*TESTED)")

matrix: $(RELEASES:%=.envs/ultralytics-%/installed)
	for release in $(RELEASES); do \
	  echo "Ultralytics $$release"; \
	  PYTHONPATH=$(CURDIR) YOLO_CONFIG_DIR=$(CURDIR)/.envs/ultralytics-$$release .envs/ultralytics-$$release/bin/python -m pytest \
	    -n $(or $(WORKERS),2) -W ignore -m core tests/scenarios/versions || exit 1; \
	done

.envs/ultralytics-%/installed: .venv/installed
	$(PYTHON) -m venv .envs/ultralytics-$*
	echo "import site; site.addsitedir('$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')')" \
	  > $$(.envs/ultralytics-$*/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/borrowed.pth
	.envs/ultralytics-$*/bin/python -m pip install --quiet --no-compile ultralytics==$*
	touch $@

zoo: .venv/installed
	$(BIN)/python benchmarks/zoo.py --out docs/zoo.md

# Every key, figure, runtime and command, from the code that reads them.
reference: .venv/installed
	$(BIN)/python docs/reference_page.py

# The documentation as a site, in site/index.html; a link that leads nowhere is an error.
docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) -m "slow or not slow"

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv runs site studies/*/data
