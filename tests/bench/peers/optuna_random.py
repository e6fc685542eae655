"""Times Optuna's random sampler on SQLite: ms per trivial trial. Prints one JSON line."""
import json
import os
import sys
import tempfile
import time

import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)
trials = int(sys.argv[1]) if len(sys.argv) > 1 else 100
with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as d:
    study = optuna.create_study(storage=f"sqlite:///{d}/o.db", sampler=optuna.samplers.RandomSampler(seed=1))
    begin = time.perf_counter()
    study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=trials)
    ms = (time.perf_counter() - begin) / trials * 1e3
print(json.dumps({"name": "optuna.sqlite", "value": ms, "unit": "ms/trial", "version": optuna.__version__}))
