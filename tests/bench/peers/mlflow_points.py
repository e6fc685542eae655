"""Times an MLflow server on SQLite: CLIENTS threads log batches of 1,000 points for SECONDS, and one client
logs single metrics. Prints one JSON line {"name", "value" (points/s), "unit", "single_ms"}.

    python mlflow_points.py [CLIENTS] [SECONDS]
"""
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

os.environ["MLFLOW_TRACKING_REQUEST_HEADER_AUTH"] = ""
import mlflow
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient


def main():
    clients = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 15
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR"), ignore_cleanup_errors=True) as d:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{d}/m.db",
             "--default-artifact-root", f"{d}/a", "--host", "127.0.0.1", "--port", str(port), "--workers", "2"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            uri = f"http://127.0.0.1:{port}"
            for _ in range(600):
                try:
                    urllib.request.urlopen(uri + "/health", timeout=1)
                    break
                except OSError:
                    time.sleep(0.1)
            else:
                raise SystemExit("the MLflow server did not come up in 60 s")
            mlflow.set_tracking_uri(uri)
            api = MlflowClient(uri)
            experiment = api.create_experiment("bench")
            runs = [api.create_run(experiment).info.run_id for _ in range(clients)]
            points, errors, lock = [0], [], threading.Lock()
            end = time.perf_counter() + seconds

            def work(run):
                client, step = MlflowClient(uri), 0
                try:
                    while time.perf_counter() < end:
                        now = int(time.time() * 1000)
                        client.log_batch(run, metrics=[Metric("loss", 1.0 / (step + i + 1), now, step + i)
                                                       for i in range(1000)])
                        step += 1000
                        with lock:
                            points[0] += 1000
                except Exception as e:  # a benchmark that ignores errors lies
                    errors.append(repr(e))

            begin = time.perf_counter()
            threads = [threading.Thread(target=work, args=(r,)) for r in runs]
            [t.start() for t in threads]
            [t.join() for t in threads]
            rate = points[0] / (time.perf_counter() - begin)
            if errors:
                raise SystemExit(f"MLflow refused: {errors[0]}")
            single = []
            for i in range(20):
                t = time.perf_counter()
                api.log_metric(runs[0], "single", 1.0, step=i)
                single.append((time.perf_counter() - t) * 1e3)
            print(json.dumps({"name": "mlflow.points", "value": rate, "unit": "points/s",
                              "single_ms": statistics.median(single), "version": mlflow.__version__}), flush=True)
        finally:
            os.killpg(server.pid, 15)
            server.wait(10)


if __name__ == "__main__":
    main()
