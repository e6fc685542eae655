#!/bin/sh
# Runs the GPU tests and benchmarks, on a machine with a GPU and little else, or in a checkout.
#   tools/gpu-run.sh [first|tests|bench|all] [--pack FILE | --build DIR] [--standin]
#   tools/gpu-run.sh first PACK
#
#   first         the first minutes on a card, 560 s at most, in order of worth: what would stop everything,
#                 correctness, our figures, the promise, figures beside PyTorch, the sanitizer
#   --pack FILE   what `make gpu-pack` made (default build/gpu-pack.tar.xz): unpacked into a temporary folder
#   --build DIR   no pack: a build tree of this checkout, with this machine's libraries
#   --standin     the stand-ins of CUDA's libraries in place of a GPU: tries these programs out
#
# Parts have time limits and fail alone; what came of each is on disk (gpu.json) before the next begins, and
# in a table at the end. The exit code is 1 where one failed or was stopped. Where no GPU answers, the
# reason is all that is said: 3 with `first`, which waits for slow libraries and asks three times, else 0.
#
#   OUT            a folder for gpu.log, bench-gpu.json and gpu.json (the table); default: the temporary one
#   PYTHON         default: python3
#   GPU_RUN_S      seconds for everything (570); with more, the parts' limits grow alike
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
what=all
pack=$here/build/gpu-pack.tar.xz
tree=''
standin=''
while [ $# -gt 0 ]; do
    case $1 in
    first) what=first && case ${2:-} in '' | -*) ;; *) pack=$2 && shift ;; esac ;;
    tests | bench | all) what=$1 ;;
    --pack) pack=$2 && shift ;;
    --build) tree=$2 && shift ;;
    --standin) standin=yes ;;
    *) echo "usage: tools/gpu-run.sh [first|tests|bench|all] [--pack FILE | --build DIR] [--standin]" >&2 && exit 2 ;;
    esac
    shift
done
python=${PYTHON:-python3}
[ "$what" != first ] || GPU_RUN_S=$((${GPU_RUN_S:-560} < 560 ? ${GPU_RUN_S:-560} : 560))
limit=${GPU_RUN_S:-570}
times=$((limit > 570 ? limit / 570 : 1)) # how often the parts' own limits fit into it
began=$(date +%s)
work=$(mktemp -d "${TMPDIR:-/tmp}/trireme-gpu-XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
out=${OUT:-$work/out}
mkdir -p "$out" || exit 1
log=$out/gpu.log
: > "$log"
say() { printf '%s\n' "$*" | tee -a "$log"; }

# ---- where things are ----
if [ -n "$tree" ]; then
    root=$here
    build=$(cd "$tree" && pwd) || exit 1
else
    [ -f "$pack" ] || { echo "gpu-run: no $pack: run make gpu-pack where Trireme is built" >&2 && exit 1; }
    "$python" -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$pack" "$work" || exit 1
    root=$work/trireme-gpu
    build=$root/build
    export FASHION_MNIST="$root/data/fashion-mnist"
    export PATH="$root/mpi/bin:$PATH" OPAL_PREFIX="$root/mpi" OPAL_PKGLIBDIR="$root/mpi/plugins" \
        OPAL_PKGDATADIR="$root/mpi/share" OPAL_DATADIR="$root/mpi/share" OPAL_SYSCONFDIR="$root/mpi/etc" \
        OPAL_LIBDIR="$build/lib" PMIX_INSTALL_PREFIX="$root/mpi" PMIX_PKGLIBDIR="$root/mpi/pmix" \
        PMIX_MCA_mca_base_component_path="$root/mpi/pmix" OMPI_MCA_mca_base_component_path="$root/mpi/plugins"
fi
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl_tcp_if_include=lo
export OMPI_MCA_oob_tcp_if_include=lo OMPI_MCA_mca_base_component_show_load_errors=0
command -v ssh >/dev/null 2>&1 || export OMPI_MCA_plm=isolated

# CUDA's libraries: those of the wheels that PyTorch came with, then an installed toolkit's.
wheels=$("$python" - <<'PY'
import glob, importlib.util, os
spec = importlib.util.find_spec("nvidia")
found = [f for base in (spec.submodule_search_locations if spec else []) for f in glob.glob(base + "/*/lib")]
print(":".join(sorted(f for f in found if any(".so" in n for n in os.listdir(f)))))
PY
)
cuda=$wheels
for folder in "$here/build/cuda/lib" /usr/local/cuda/lib64; do
    [ ! -d "$folder" ] || cuda=$cuda${cuda:+:}$folder
done
if [ -n "$standin" ]; then
    cuda=$build/standin/lib
    export TRIREME_CUDA_BACKEND="$build/standin/lib/libtrireme-cuda.so"
else
    export TRIREME_CUDA_BACKEND="${TRIREME_CUDA_BACKEND:-$build/lib/libtrireme-cuda.so}"
fi
if ! /sbin/ldconfig -p 2>/dev/null | grep -q 'libstdc++\.so\.6' && [ -d "$build/fallback" ]; then
    cuda=$cuda${cuda:+:}$build/fallback
fi
export PEER_LD_LIBRARY_PATH="${LD_LIBRARY_PATH:-}" # PyTorch's process finds its own libraries
export LD_LIBRARY_PATH="$cuda${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
if [ -z "${TRIREME_NCCL:-}" ]; then
    old_ifs=$IFS && IFS=:
    for folder in $cuda; do
        [ -n "${TRIREME_NCCL:-}" ] || [ ! -f "$folder/libnccl.so.2" ] || export TRIREME_NCCL="$folder/libnccl.so.2"
    done
    IFS=$old_ifs
fi
export TRIREME_BIN="$build/bin" BUILD="$build" PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

# ---- parts ----
table=$work/table
: > "$table"
keep() { # the table so far, where it is wanted
    "$python" - "$table" "$out" "$devices" <<'PY' && sync "$out/gpu.json" "$log" 2>/dev/null
import json, os, sys
table, out, devices = sys.argv[1:]
rows = [line.rstrip("\n").split(" ", 3) for line in open(table)]
json.dump({"devices": devices.splitlines(),
           "parts": [{"name": n, "exit": rc, "seconds": int(s), "result": r} for n, rc, s, r in rows]},
          open(out + "/gpu.json.new", "w"), indent=1)
os.replace(out + "/gpu.json.new", out + "/gpu.json")
PY
}
part() { # NAME SECONDS COMMAND...
    name=$1 seconds=$2
    shift 2
    seconds=$((seconds * times))
    left=$((limit - $(date +%s) + began - 5))
    [ "$left" -ge "$seconds" ] || seconds=$left
    if [ "$seconds" -lt 5 ]; then
        echo "$name - 0 no time was left" >> "$table"
        keep
        return
    fi
    say "" "==> $name (at most $seconds s): $*"
    start=$(date +%s)
    { timeout -s INT -k 10 "$seconds" "$@" < /dev/null 2>&1; echo $? > "$work/rc"; } | tee -a "$log"
    rc=$(cat "$work/rc")
    case $rc in
    0) verdict=passed ;;
    124 | 137) verdict="stopped after $seconds s" ;;
    *) verdict=FAILED ;;
    esac
    echo "$name $rc $(($(date +%s) - start)) $verdict" >> "$table"
    keep
}

tests() {
    for program in "$build"/tests/unit/kernels/test_cuda*; do
        case $program in *.d) continue ;; esac
        part "$(basename "$program")" 90 "$program"
    done
    part e2e "$1" "$python" -m pytest -q -rs --noconftest -p no:cacheprovider "$root/tests/e2e/test_gpu.py" \
        -k "not sanitized"
}
sanitize() {
    part sanitizer "$1" env TRIREME_SANITIZER_S=$(($1 * times / 6)) \
        "$python" -m pytest -q -rs --noconftest -p no:cacheprovider "$root/tests/e2e/test_gpu.py" -k sanitized
}
bench() { # SECONDS for PyTorch, each time
    part bench-sweeps 100 "$python" "$root/tests/bench/gpu.py" --only sweeps --out "$out/bench-gpu-sweeps.json"
    peers=
    "$python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)' ||
        [ -x "$build/peers/bin/python" ] || peers=--no-peers
    # shellcheck disable=SC2086 # an option, or none
    part bench-training "$limit" "$python" "$root/tests/bench/gpu.py" --only training --peer-seconds $(($1 * times)) $peers \
        --out "$out/bench-gpu-training.json"
}

# Each part is worth more than those after it; a peer that prints nothing loses its own figures only.
first() {
    e2e=$root/tests/e2e/test_gpu.py
    pytest="$python -m pytest -q -rs --noconftest -p no:cacheprovider $e2e"
    for program in test_cuda_operators test_cuda test_cuda_warm; do
        part "$program" 60 "$build/tests/unit/kernels/$program"
    done
    for precision in fp32 tf32 bf16; do
        part "figures-$precision" 25 "$build/tests/bench/worker/bench_train" --device cuda --precision "$precision" \
            mlp256 mlp256-v1 mlp1024 cnn256 cnn256-v1
    done
    # shellcheck disable=SC2086 # words
    part bits 90 $pytest -x -k '(two_runs or killed or ranks_on_one_card) and (mlp-bf16 or cnn-fp32) and not (bf16-4 or fp32-4)'
    # shellcheck disable=SC2086
    part refusals 20 $pytest -k 'shared_card or no_visible'
    if "$python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)' ||
        [ -x "$build/peers/bin/python" ]; then
        part peers 150 "$python" "$root/tests/bench/gpu.py" --only training --peer-seconds 40 \
            --out "$out/bench-gpu-training.json"
    fi
    # shellcheck disable=SC2086
    part memory 60 $pytest -k 'out_of_memory or hundred_trials'
    ! command -v compute-sanitizer >/dev/null ||
        part memcheck 60 compute-sanitizer --tool memcheck --error-exitcode 86 \
            "$build/tests/unit/kernels/test_cuda_operators"
}

[ -n "$standin" ] || ! command -v nvidia-smi >/dev/null || nvidia-smi 2>&1 | tee -a "$log"
need=
[ "$what" != first ] || need=--need-gpu
# shellcheck disable=SC2086 # an option, or none
devices=$("$build/bin/trireme-worker" --devices $need 2>&1)
say "$devices"
if ! printf '%s\n' "$devices" | grep -q '^gpu .*multiprocessors'; then
    say "no GPU: $(printf '%s\n' "$devices" | sed -n 's/^gpu *\(none: \)\{0,1\}//p' | head -n 1)"
    [ "$what" != first ] || exit 3
    exit 0
fi
case $what in
first) first ;;
tests) tests 330 && sanitize 240 ;;
bench) bench 75 ;;
all) tests 200 && bench 25 && sanitize 120 ;;
esac

# ---- what came of it ----
say "" "part              exit  seconds  result"
while read -r name rc seconds verdict; do
    say "$(printf '%-16s %5s %8s  %s' "$name" "$rc" "$seconds" "$verdict")"
done < "$table"
"$python" - "$out" <<'PY'
import json, os, sys
out = sys.argv[1]
halves = [f"{out}/bench-gpu-{name}.json" for name in ("training", "sweeps")]
found = [json.load(open(f)) for f in halves if os.path.exists(f)]
if found:
    found[0]["results"] = [r for half in found for r in half["results"]]
    json.dump(found[0], open(out + "/bench-gpu.json", "w"), indent=1)
    for f in halves:
        if os.path.exists(f):
            os.remove(f)
PY
say "$(($(date +%s) - began)) s in all${OUT:+; see $OUT}"
! grep -Eq 'FAILED|stopped' "$table"
