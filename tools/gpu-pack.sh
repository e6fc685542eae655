#!/bin/sh
# Packs what a bare machine with a GPU needs to run Trireme's GPU tests and benchmarks: build/gpu-pack.tar.xz.
#   tools/gpu-pack.sh [--standin]     BUILD names the build tree; --standin packs the stand-ins too
#
# In it, laid out as a checkout that has been built: executables, the GPU backend, its unit tests and
# bench_train; the shared libraries that they load here, but for glibc's and CUDA's; Open MPI; the data
# set Fashion-MNIST; configs, tests and tools/gpu-run.sh, which runs it all there. Executables find their
# libraries beside themselves. The other machine needs glibc as new as this one's, an NVIDIA driver,
# CUDA 13's libraries (PyTorch's wheels bring them), Python 3 and pytest.
set -eu
LC_ALL=C
export LC_ALL
build=${BUILD:-build}
fashion=${FASHION_MNIST:-/usr/share/datasets/fashion-mnist}
pack=$build/gpu-pack.tar.xz
bytes_max=$((56 << 20))
standin=
[ "${1:-}" != --standin ] || standin=yes

die() {
    echo "gpu-pack: $*" >&2
    exit 1
}
command -v patchelf >/dev/null || die "patchelf is missing: apt-get install patchelf"
command -v xz >/dev/null || die "xz is missing: apt-get install xz-utils"
[ -n "$standin" ] || [ -f "$build/lib/libtrireme-cuda.so" ] ||
    die "no $build/lib/libtrireme-cuda.so: run make CUDA=1"

into=$(mktemp -d "${TMPDIR:-/tmp}/trireme-gpu-pack-XXXXXX")
trap 'rm -rf "$into"' EXIT
root=$into/trireme-gpu
mkdir -p "$root/build/bin" "$root/build/lib" "$root/build/fallback" "$root/data"

# ---- programs ----
copy() { # FILE FOLDER
    [ -f "$1" ] || die "no $1: run make $1"
    mkdir -p "$2"
    cp -L "$1" "$2/"
}
for name in trireme trireme-tracker trireme-coordinator trireme-worker trireme-export; do
    copy "$build/bin/$name" "$root/build/bin"
done
for test in tests/unit/kernels/test_cuda*.c; do
    name=${test%.c}
    copy "$build/$name" "$root/build/tests/unit/kernels"
done
copy "$build/tests/bench/worker/bench_train" "$root/build/tests/bench/worker"
[ ! -f "$build/lib/libtrireme-cuda.so" ] || copy "$build/lib/libtrireme-cuda.so" "$root/build/lib"
if [ -n "$standin" ]; then
    for library in "$build"/standin/lib/lib*.so*; do
        copy "$library" "$root/build/standin/lib"
    done
fi

# ---- Open MPI: as it is installed, in a folder of its own (OPAL_PREFIX and its relatives) ----
path_of() { # NAME
    ompi_info --path "$1" --parsable | sed 's/^path:[a-z]*://'
}
plugins=$(path_of pkglibdir)
copy "$(command -v orterun)" "$root/mpi/bin"
copy "$(command -v orted)" "$root/mpi/bin"
ln -s orterun "$root/mpi/bin/mpirun"
mkdir -p "$root/mpi/plugins" "$root/mpi/share" "$root/mpi/etc"
cp -rL "$(path_of pkgdatadir)"/. "$root/mpi/share/"
cp -rL "$(path_of sysconfdir)"/. "$root/mpi/etc/"
# Plugins for networks and schedulers that bring a driver along are of no use on one machine.
for plugin in "$plugins"/mca_*.so; do
    ldd "$plugin" |
        grep -Eq 'lib(ucp|ucs|fabric|psm|infinipath|ibverbs|rdmacm|efa|oshmem|mca_common_(ucx|ofi|verbs|monitoring))' ||
        cp -L "$plugin" "$root/mpi/plugins/"
done
pmix=$(ldconfig -p | sed -n 's/.*libpmix\.so\.2 .*=> //p' | head -n 1)
if [ -n "$pmix" ]; then
    from=$(dirname "$(readlink -f "$pmix")")/pmix
    mkdir -p "$root/mpi/pmix"
    [ ! -d "$from" ] || cp -L "$from"/*.so "$root/mpi/pmix/"
fi

# ---- the libraries that these load ----
closure() { # FILES: what the loader takes for them, without glibc and CUDA
    for file in "$@"; do
        LD_LIBRARY_PATH=$(dirname "$file") ldd "$file" 2>/dev/null | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p'
    done | sort -u | grep -Ev '/(ld-linux[^/]*|lib(c|m|pthread|dl|rt|resolv|util|anl|nsl))\.so' |
        grep -Ev '/lib(cuda|cudart|cublas|cublasLt|cudnn[a-z_]*|nccl|nvrtc)\.so' | grep -v "^$root"
}
# shellcheck disable=SC2046 # names without spaces
for library in $(closure $(find "$root" -type f \( -name '*.so*' -o -perm -100 \))); do
    case ${library##*/} in
    libstdc++.so* | libgcc_s.so*) copy "$library" "$root/build/fallback" ;; # for a machine without
    *) copy "$library" "$root/build/lib" ;;
    esac
done
find "$root" -type f \( -name '*.so*' -o -perm -100 \) | while read -r file; do
    strip --strip-unneeded "$file" 2>/dev/null || continue
    case $file in
    */libtrireme-cuda.so | */standin/*) continue ;; # theirs are CUDA's, by LD_LIBRARY_PATH
    esac
    # shellcheck disable=SC2016 # the loader's own variable
    up=$(dirname "${file#"$root/"}" | sed 's,[^/][^/]*,..,g')
    patchelf --force-rpath --set-rpath "\$ORIGIN/$up/build/lib" "$file"
done

# ---- data, configs, tests ----
for name in train-images-idx3 train-labels-idx1 t10k-images-idx3 t10k-labels-idx1; do
    copy "$fashion/$name-ubyte.gz" "$root/data/fashion-mnist"
done
cp -r configs "$root/configs"
copy tests/e2e/test_gpu.py "$root/tests/e2e"
copy tests/bench/gpu.py "$root/tests/bench"
copy tests/bench/peers/pytorch_gpu.py "$root/tests/bench/peers"
copy tools/gpu-run.sh "$root/tools"

tar -C "$into" --sort=name --owner=0 --group=0 --numeric-owner -cf - trireme-gpu | xz -6 -T2 > "$pack.tmp"
bytes=$(stat -c %s "$pack.tmp")
if [ "$bytes" -gt "$bytes_max" ]; then
    rm -f "$pack.tmp"
    die "the pack has $bytes bytes, more than $bytes_max: what grew? largest:
$(find "$root" -type f -printf '%s %P\n' | sort -rn | head -n 8)"
fi
mv "$pack.tmp" "$pack"
echo "$pack: $((bytes >> 20)) MiB; there: tools/gpu-run.sh first PACK, or all"
