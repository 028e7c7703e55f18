# make demo: install, then the whole tool on scikit-learn's digits in a few minutes.   make test: everything that must hold.
# make claims: what papers say of methods that are here, shown by trainings of minutes each.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
SARTOR := $(BIN)/sartor

.PHONY: demo test quick claims lint types docs clean

demo: $(VENV)/.installed
	rm -rf demo-run demo-pick demo-digit.png
	$(SARTOR) fit digits --time 90s --max-latency 1ms --out demo-run
	$(SARTOR) show demo-run
	$(SARTOR) pick demo-run --max-latency 1ms -o demo-pick
	$(BIN)/python -c "from PIL import Image; from sklearn.datasets import load_digits; \
	  Image.fromarray((load_digits().images[-1] * 255 / 16).astype('uint8')).save('demo-digit.png')"
	$(SARTOR) predict demo-pick demo-digit.png
	@echo "the report: demo-run/report.html"

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not claim"

quick: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not heavy and not claim"

claims: $(VENV)/.installed
	$(BIN)/python -m pytest -m claim -s

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

docs: $(VENV)/.installed
	$(BIN)/mkdocs build --strict --quiet

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

clean:
	rm -rf demo-run demo-pick demo-digit.png site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
