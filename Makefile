VENV := .venv
BIN := $(VENV)/bin
# an environment whose Python is older than 3.11, or is gone, is made anew
STALE := $(shell $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || echo stale)

# what builds the documentation, apart from what the tests run with
DOCS := .cache/docs

# a folder in memory, if programs in it may run: an engine waits for the disk some 25 times between start and end
MEMORY := $(shell awk '$$2 == "/dev/shm" && $$4 !~ /noexec/ {print $$2}' /proc/mounts 2>/dev/null | head -1)

# one more than there are cores, as many tests wait for what goes by the clock
WORKERS := $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))

# set in many containers; each start would compile all modules anew
unexport PYTHONDONTWRITEBYTECODE
export PYTHON

.PHONY: help run test test-postgres test-peers test-shipped test-faults test-faults-all test-fuzz chaos cluster soak check fix docs recording pictures vendored lock bench bench-peers binary dist stale

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /	/' | sort

$(BIN)/bytebrew: pyproject.toml $(STALE)
	@scripts/venv.sh $(VENV) .
	@touch $@

$(VENV)/.dev: pyproject.toml $(STALE)
	@scripts/venv.sh $(VENV) '.[test,check]'
	@touch $@ $(BIN)/bytebrew

run: $(BIN)/bytebrew ## Set up and start the engine on http://127.0.0.1:8443
	@exec $(BIN)/bytebrew serve

test: $(VENV)/.dev ## Set up and run the tests, but for those below
	$(MEMORY:%=TMPDIR=%) PYTHONHASHSEED=0 $(BIN)/pytest -m "not peers and not slow and not shipped and not postgresql" -n $(WORKERS) --dist worksteal --hypothesis-profile=ci

$(VENV)/.postgres: $(VENV)/.dev
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test-postgres]'
	@touch $@

test-postgres: $(VENV)/.postgres ## Run the tests and the kills on a PostgreSQL server, which they start; TESTS=tests/store runs a part
	tests/peers/setup.sh pooler
	BYTEBREW_TEST_STORE=postgresql $(MEMORY:%=TMPDIR=%) PYTHONHASHSEED=0 $(BIN)/pytest -m "not peers and not shipped and not sqlite and (not slow or kills or postgresql)" -n $(WORKERS) --dist worksteal --hypothesis-profile=ci $(TESTS)

test-peers: $(VENV)/.dev ## Run the tests against foreign servers, which this sets up under .cache/
	tests/peers/setup.sh
	$(BIN)/pytest -m peers -rs -n 2 --dist loadfile

test-shipped: $(VENV)/.dev ## Build what is shipped and run the tests against it: packages, executable, container, examples
	tests/shipped/setup.sh
	$(BIN)/pytest -m shipped -rs -n 2 --dist loadfile

test-faults: $(VENV)/.dev ## Kill and flood the engine, and fail each ninth of its operations: what CI runs
	$(BIN)/pytest -m "slow and not postgresql" -n 2 --dist worksteal

test-faults-all: $(VENV)/.dev ## Kill the engine at every record and fail every operation once, in half an hour
	ALL_FAULTS=1 $(BIN)/pytest -m "slow and not postgresql" -n 2 --dist worksteal

test-fuzz: $(VENV)/.dev ## Send every route a thousand requests, by chance others each time
	FUZZ_EXAMPLES=1000 $(BIN)/pytest -n auto --dist load tests/web/test_fuzz.py

chaos: $(VENV)/.dev ## Run a hostile world by chance against an engine: SEED=17 MINUTES=2 SEEDS=40
	$(BIN)/python -m tests.chaos $(SEED:%=--seed %) $(MINUTES:%=--minutes %) $(SEEDS:%=--seeds %)

cluster: $(VENV)/.postgres ## Disturb nodes behind a balancer by chance: SEED=17 MINUTES=10 NODES=3 SESSIONS=200
	$(BIN)/python -m tests.cluster $(SEED:%=--seed %) $(MINUTES:%=--minutes %) $(NODES:%=--nodes %) $(SESSIONS:%=--sessions %)

soak: $(VENV)/.dev ## Run mixed traffic with slow, vanishing and hostile clients for an hour: SEED=17 MINUTES=60 REPORT=soak.jsonl
	$(BIN)/python -m tests.soak $(SEED:%=--seed %) $(MINUTES:%=--minutes %) $(REPORT:%=--report %)

check: $(VENV)/.dev ## Report what lint, format and types find; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/check_names.py

fix: $(VENV)/.dev ## Mend what lint and format can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(DOCS)/.made: pyproject.toml $(VENV)/.dev
	@scripts/docs_site/setup.sh $(BIN) $(DOCS)
	@touch $@

# All pages are read each time: one that has not changed may link to one that has.
docs: $(VENV)/.dev $(DOCS)/.made ## Write pages and types from the code, and build the pages as a site, build/docs/index.html
	$(BIN)/python scripts/settings_page.py
	$(BIN)/python -m scripts.client_types
	$(BIN)/python -m scripts.docs_site .cache/site/pages
	$(DOCS)/bin/sphinx-build -q -n -W -E -a --keep-going -j auto -c scripts/docs_site -d .cache/site/trees .cache/site/pages build/docs

recording: $(VENV)/.dev $(DOCS)/.made ## Record the first minute at a terminal anew, docs/images/first-minute.cast and .svg
	$(DOCS)/bin/python -m scripts.recording $(BIN)

pictures: $(VENV)/.dev ## Take the pictures of the page in docs/images anew, from its tests
	tests/peers/setup.sh
	scripts/pictures.sh

vendored: $(VENV)/.dev ## Fetch the libraries that the page ships, as their pins say
	$(BIN)/python scripts/vendored.py

lock: ## Pin what pyproject.toml needs in packaging/requirements.lock: ARGS=--upgrade takes the newest of all
	scripts/lock.sh $(ARGS)

bench: $(VENV)/.dev ## Measure the engine against a bare pass-through, as ratios in one run; BEFORE=TREE adds another checkout
	$(BIN)/python -m tests.bench $(BEFORE:%=--before %)

bench-peers: $(VENV)/.dev ## Measure what people would pick instead beside it, which this sets up under .cache/
	tests/bench/peers/setup.sh
	$(BIN)/python -m tests.bench peers

binary: $(VENV)/.dev ## Build the executable that needs no Python, as one file and as a folder, into dist/; takes Go
	rm -rf .cache/binary/wheel
	$(BIN)/python -m hatchling build -t wheel -d .cache/binary/wheel
	PYTHON=$(BIN)/python packaging/binary/build.sh .cache/binary/wheel/*.whl .cache/binary
	mkdir -p dist && cp .cache/binary/bytebrew-*-linux-* dist

dist: ## Build what is published into dist/: packages of the engine and its clients, the lock, a bill of materials, SHA256SUMS
	scripts/dist.sh dist
