# Each target sets up what it needs in .venv on a machine with Python 3.11, make and pip; a second call is quick.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
FLAGS  ?=

.PHONY: help run study methods rules guide tower papers test check bench bench-quick efficiency gallery notebooks docs site clean
help: ## what the targets do
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	@echo "installing tokenprune and its tools into $(VENV)"
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "tokenprune needs Python 3.11 or newer: make PYTHON=python3.11"'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

run: $(STAMP) ## runs DyCoke + DyToK against the full model and random pruning on the embedded benchmark
	@$(BIN)/tokenprune run strategy=dycoke+dytok $(FLAGS)

study: $(STAMP) ## compares strategies over retentions on the embedded benchmark, into docs/results
	@$(BIN)/tokenprune study experiments/tinyvqa_retention.yaml report=docs/results $(FLAGS)

methods: $(STAMP) ## compares all methods at equal budgets on the embedded benchmark, into docs/results/methods.md
	@$(BIN)/tokenprune study experiments/tinyvqa_methods.yaml report=docs/results $(FLAGS)

rules: $(STAMP) ## the paper's rule against the released one, into docs/results/paper-vs-released.md
	@$(BIN)/python -m experiments.rules $(FLAGS)

guide: $(STAMP) ## what cheaper guides of DyToK cost, find and answer, into docs/results/guide.md: half an hour
	@$(BIN)/python -m experiments.guide $(FLAGS)

tower: $(STAMP) ## score over the work of stages inside the vision tower, into docs/results/tower.md: half an hour
	@$(BIN)/python -m experiments.tower $(FLAGS)

papers: $(STAMP) ## figures and grids of papers on the embedded models, and the pages in docs/results/papers: half an hour
	@$(BIN)/tokenprune reproduce all analogue=true commit=true $(FLAGS)
	@$(BIN)/python docs/papers.py draw

test: $(STAMP) ## runs the whole test suite on two processes
	@echo "running the tests"
	@$(BIN)/python -m pytest --numprocesses 2 $(FLAGS)

check: $(STAMP) ## checks format, lint and types, and the papers' figures that need no run
	@echo "checking format, lint and types"
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/python -m pyright --pythonpath $(BIN)/python
	@$(BIN)/tokenprune reproduce all check=true

bench: $(STAMP) ## times operators, decoding, batches, start-up and the loop: a quarter of an hour
	@for script in operators decode batches startup loop_overhead; do $(BIN)/python benchmarks/$$script.py || exit 1; done

bench-quick: $(STAMP) ## the ratios that have a bar beside those in benchmarks/baseline.json: three minutes
	@$(BIN)/python benchmarks/quick.py $(FLAGS)

efficiency: $(STAMP) ## measures at real size, into docs/results/efficiency.md: half an hour
	@$(BIN)/python benchmarks/efficiency.py $(FLAGS)

gallery: $(STAMP) ## what each strategy keeps of one clip, into docs/gallery.md, and the README's pictures: a minute
	@$(BIN)/python docs/gallery.py $(FLAGS)

notebooks: $(STAMP) ## runs the notebooks and stores what they show: two minutes
	@$(BIN)/python docs/notebooks.py $(FLAGS)

docs: $(STAMP) ## refreshes the generated parts of the documentation
	@$(BIN)/python docs/generate.py

site: $(STAMP) ## builds the documentation as a site, into build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean: ## removes the environment and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build dist
