"""Times Ray Tune with reused actors: TRIALS trials that each work for SECONDS, CPUS at once.

    python ray_tune.py TRIALS SECONDS CPUS

Prints one JSON line {"name", "value" (seconds for all, without ray.init), "unit", "ms_per_trial"}.
"""
import json
import logging
import os
import sys
import time

os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
os.environ["RAY_DEDUP_LOGS"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
from ray import tune


class Trial(tune.Trainable):
    def setup(self, config):
        self.seconds = config["seconds"]

    def reset_config(self, new_config):
        self.seconds = new_config["seconds"]
        return True

    def step(self):
        end = time.perf_counter() + self.seconds
        while time.perf_counter() < end:  # a core at work, as training is
            pass
        return {"loss": 0.0, "done": True}

    def save_checkpoint(self, _):
        return {}

    def load_checkpoint(self, _):
        pass


def main():
    trials, seconds, cpus = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    ray.init(num_cpus=cpus, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    tune.run(Trial, config={"seconds": 0.0, "x": tune.uniform(0, 1)}, num_samples=2, verbose=0, reuse_actors=True)
    begin = time.perf_counter()
    tune.run(Trial, config={"seconds": seconds, "x": tune.uniform(0, 1)}, num_samples=trials, verbose=0,
             reuse_actors=True)
    total = time.perf_counter() - begin
    print(json.dumps({"name": "ray.sweep", "value": total, "unit": "s", "ms_per_trial": total / trials * 1e3,
                      "version": ray.__version__}), flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
