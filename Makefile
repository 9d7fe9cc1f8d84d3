# Everything works on a fresh machine: set-up happens in .venv first, and nothing is installed elsewhere.
.DEFAULT_GOAL := help
.PHONY: help setup demo unit test check format converge bench pictures lock clean
BIN := .venv/bin
# Half of the time of most tests is spent waiting for Postgres. tests/conftest.py says what stays together.
TESTS_AT_ONCE := -n auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 10

setup: ## make .venv from the hashed lock (instant when nothing changed)
	@scripts/setup

demo: setup ## three users, eight missions, on an embedded Postgres and a local Ray
	@$(BIN)/mana demo

# The two slowest files come first, so that no process is left with one of them at the end.
unit: setup ## the tests that need neither Postgres nor Ray, in under a minute
	@$(BIN)/python -m pytest $(TESTS_AT_ONCE) -q tests/unit/test_vectors.py tests/unit/test_merge.py tests/unit $(ARGS)

test: setup ## all tests; ARGS="-k name" narrows them
	@$(BIN)/python -m pytest $(TESTS_AT_ONCE) $(ARGS)

check: setup ## formatting, lint, strict types, import contracts, no model named in code
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports
	@$(BIN)/python scripts/check_model_names.py

format: setup ## rewrite what ruff can rewrite
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

converge: setup ## many devices of one person under faults; SEEDS=1000 FIRST=0
	@MANA_CONVERGE_SEEDS=$(or $(SEEDS),100) MANA_CONVERGE_FIRST=$(or $(FIRST),0) \
	  $(BIN)/python -m pytest -q tests/integration/test_convergence.py $(ARGS)

pictures: setup ## docs/images anew: each page in light, dark and on a phone
	@mkdir -p docs/images
	@MANA_TEST_PG=pg18 MANA_PICTURES=docs/images $(BIN)/python -m pytest -q tests/browser/test_every_page.py

bench: setup ## ratios measured in one run
	@$(BIN)/python -m tests.bench $(ARGS)

# uv resolves for all platforms and Pythons at once, which pip cannot; it lives in a throw-away environment.
# Versions that still fit are kept; `make lock UPGRADE=--upgrade` moves all to the newest.
lock: setup ## write requirements.lock anew from pyproject.toml
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	$(BIN)/python -m venv "$$dir" && "$$dir/bin/pip" install --quiet uv && \
	"$$dir/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-header --extra dev $(UPGRADE) \
	  pyproject.toml --output-file requirements.lock && \
	echo "requirements.lock: $$(grep -c '^[a-zA-Z0-9]' requirements.lock) packages"

clean: ## remove .venv and every cache (data of a running mana stays)
	@rm -rf .venv dist build .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
