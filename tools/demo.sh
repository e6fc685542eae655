#!/bin/sh
# The demonstration (`make demo`): a 12-trial sweep over all 60,000 Fashion-MNIST images, the
# leaderboard, a replay of the best run on another number of ranks, promotion, and an ONNX file that an
# independent program runs on the 10,000 test images.
set -eu
build=${BUILD:-build}
bin=$build/bin
export TRIREME_HOME="${TRIREME_HOME:-$(pwd)/$build/demo}"
result=$build/demo-result.json
started=$(date +%s)

say() { printf '\n==> %s\n' "$*"; }
field() { /usr/bin/python3 -c "import json,sys
v = json.load(open('$result'))
for k in sys.argv[1].split('.'):
    v = v[k]
print(v)" "$1"; }

say "trireme run configs/fashion-mlp.yaml"
"$bin/trireme" run configs/fashion-mlp.yaml --json > "$result"
sweep=$(field sweep)
best=$(field best.run)

say "trireme ls $sweep"
"$bin/trireme" ls "$sweep"

say "trireme metrics $best val_error"
"$bin/trireme" metrics "$best" val_error

say "trireme replay $best --ranks 2   (the run used 1)"
"$bin/trireme" replay "$best" --ranks 2

say "trireme promote $best fashion@live"
"$bin/trireme" promote "$best" fashion@live --comment "best of the demonstration"

say "trireme export fashion@live --format onnx"
"$bin/trireme" export fashion@live --format onnx -o "$build/demo-export"

say "an independent program runs the ONNX file on the 10,000 test images"
data=/usr/share/datasets/fashion-mnist
onnx=$(find "$build/demo-export" -name '*.onnx' | head -n 1)
/usr/bin/python3 tools/run_onnx.py "$onnx" "$data/t10k-images-idx3-ubyte.gz" \
    "$data/t10k-labels-idx1-ubyte.gz" | tee "$build/demo-onnx.txt"

/usr/bin/python3 - "$result" "$build/demo-onnx.txt" <<'PY'
import json, re, sys
result = json.load(open(sys.argv[1]))
best = next(t for t in result["trials"] if t["run"] == result["best"]["run"])
val, test = best["metrics"]["val_error"], best["metrics"]["test_error"]
onnx = float(re.search(r"error[ =:]+([0-9.]+)", open(sys.argv[2]).read()).group(1))
print(f"\nbest validation error {val:.4f}, test error {test:.4f}, the same by ONNX {onnx:.4f}")
assert len(result["trials"]) >= 12 and val <= 0.13, "the sweep did not reach a validation error of 0.13"
assert abs(test - onnx) < 1e-9, "the exported model does not have the accuracy of the run"
PY
say "done in $(($(date +%s) - started)) s. State is in $TRIREME_HOME; look around with
    TRIREME_HOME=$TRIREME_HOME $bin/trireme ls"
