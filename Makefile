# Every target sets up `.venv` by itself with plain pip; nothing else needs to be installed first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
PO := $(wildcard src/unvanish/locale/*/LC_MESSAGES/*.po)
MO := $(PO:.po=.mo)
# Workers beyond the cores only fight over them: torch is multi-threaded itself.
TEST_ENV := OMP_NUM_THREADS=1 PYTHONWARNINGS=default

.DEFAULT_GOAL := help
.PHONY: $(shell grep -ohE '^[a-z-]+:' $(MAKEFILE_LIST) | tr -d :)

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STAMP)  ## create .venv with everything that development needs

$(STAMP): pyproject.toml constraints.txt hatch_build.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,lint]'
	touch $@

%.mo: %.po $(STAMP)
	$(BIN)/pybabel --quiet compile -i $< -o $@

messages: $(MO)  ## compile the translations

demo: $(STAMP) $(MO)  ## the main job on real data: three networks, watched, with their verdicts
	$(BIN)/unvanish demo

test: $(STAMP) $(MO)  ## the test suite (what CI runs)
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-all: $(STAMP) $(MO)  ## the test suite with what is slow
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(STAMP)  ## ruff, mypy and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## let ruff format the tree
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

readme: $(STAMP) $(MO)  ## put the real output of the example into the READMEs
	$(BIN)/python docs/make_readme.py

pages: $(STAMP) $(MO)  ## write the pages of the documentation that come from the code
	$(BIN)/python docs/write_json_page.py
	$(BIN)/python docs/write_cases_page.py
	$(BIN)/python docs/write_rules_page.py
	$(BIN)/python docs/write_cures_page.py

notebooks: $(STAMP) $(MO)  ## execute the tutorial notebooks, in both languages (needs Chromium; minutes)
	$(BIN)/python docs/write_notebooks.py

pictures: $(STAMP) $(MO)  ## make the pictures of the READMEs from a real run (needs Chromium)
	$(BIN)/python docs/make_pictures.py

bench-check: $(STAMP)  ## cost of a traced step against a bare one, interleaved
	MALLOC_MMAP_THRESHOLD_=65536 $(BIN)/python benchmarks/check.py

bench-verdicts: $(STAMP)  ## right verdicts on all cases with known answers, 3 seeds, by `unvanish run`
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/verdicts.py --json benchmarks/results/verdicts.json

bench-rules: $(STAMP)  ## time of judging a trace of 5,000 ops
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/rules.py

# Other releases of torch and of the libraries than ours: an environment of its own.
ZOO_VENV ?= .venv-zoo

$(ZOO_VENV)/.ready: benchmarks/zoo/requirements.txt
	test -x $(ZOO_VENV)/bin/python || $(PYTHON) -m venv $(ZOO_VENV)
	$(ZOO_VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
		-r benchmarks/zoo/requirements.txt -e .
	touch $@

# Hours on 2 cores for all; the smallest of every family, and the faults, are done in two. What is
# done is kept in .zoo/: an interrupted run goes on where it was, and `report` judges it again.
coverage-zoo: $(ZOO_VENV)/.ready  ## trace every architecture of timm, transformers and torchvision
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(ZOO_VENV)/bin/python -m benchmarks.zoo trace
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(ZOO_VENV)/bin/python -m benchmarks.zoo faults
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(ZOO_VENV)/bin/python -m benchmarks.zoo alarms
	$(ZOO_VENV)/bin/python -m benchmarks.zoo report

bench-fix: $(STAMP)  ## cures proven on cases with known faults, beside random search; goes on where it stopped
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/fix.py

bench-ensemble: $(STAMP)  ## networks trained as one batched ensemble against one by one, side by side
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/ensemble.py

bench-overhead: $(STAMP)  ## cost of monitoring a long run, and of its peers, interleaved
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/overhead.py --json benchmarks/results/overhead.json

bench-theory: $(STAMP)  ## time of one activation's full theory
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/theory.py --json benchmarks/results/theory.json

bench-prediction: $(STAMP)  ## theory against measured networks: intervals, rates, cost
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/prediction.py

bench-boundary: $(STAMP)  ## does a tanh network train where theory says so? (real digits)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/boundary.py

bench-page: $(STAMP)  ## time to open the report of a 500-layer, 1,000-sample run (needs Chromium)
	$(BIN)/python benchmarks/page.py

bench-store: $(STAMP)  ## a run of a million steps in the store: writing, size, reading
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/store.py --json benchmarks/results/store.json

bench-serve: $(STAMP) $(MO)  ## how fast the live page answers a slider, and shows a sample (needs Chromium)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/serve.py --json benchmarks/results/serve.json

screenshots: $(STAMP) $(MO)  ## pictures of the live page at two widths, light and dark (needs Chromium)
	OMP_NUM_THREADS=1 $(BIN)/python docs/make_screenshots.py

bench-depth: $(STAMP)  ## how deep plain networks train, by their starting weights (half an hour)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/depth.py

clean:  ## remove what the targets made
	rm -rf $(VENV) $(MO) dist .pytest_cache .mypy_cache .ruff_cache
