#!/bin/sh
# Makes sure of the Debian packages that Trireme needs.
#   tools/deps.sh check    install what is missing; say nothing when all is there (make runs this)
#   tools/deps.sh install  the same, verbosely, and the packages of lint, format and tools/how_to.py too; with CUDA=1
#                          NVIDIA's toolkit as well, into build/cuda, where none is installed
#   tools/deps.sh pack     as check, with what `make gpu-pack` needs
#   tools/deps.sh proof    what `make proof` needs: root, Slurm, FUSE, virtual environments, a locale with a decimal comma,
#                          the toolkit (unless CUDA=0)
# With no right to install it prints the one line to run and stops with exit code 1.
# The Makefile says in CUDA and CUDA_GAPS whether the GPU backend is wanted, and what of its toolkit
# is missing.
set -eu

build="gcc make pkg-config libc6-dev libdnnl-dev openmpi-bin libopenmpi-dev libzmq3-dev liblmdb-dev
libyaml-dev libjansson-dev libzstd-dev libssl-dev zlib1g-dev"
tests="libcmocka-dev python3 python3-pytest python3-pytest-xdist python3-zmq python3-numpy
python3-onnx dataset-fashion-mnist procps xz-utils"
style="clang-format-14 cppcheck patch"
packing="patchelf"
proof="slurmctld slurmd slurm-client munge slurm-wlm-basic-plugins libpmix-dev bindfs python3-venv locales"

# CUDA 13.0 as NVIDIA publishes it on PyPI: the compiler, the runtime, and the libraries whose headers
# the GPU backend includes. PyTorch's wheels for CUDA 13.0 bring the same versions.
toolkit="nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88
nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-nvtx==13.0.85
nvidia-cublas==13.1.0.3 nvidia-cudnn-cu13==9.19.0.56 nvidia-nccl-cu13==2.28.9"
cuda=${CUDA:-auto}
gaps=${CUDA_GAPS:-}

# One tree as an installed toolkit has it: the wheels unpack to nvidia/cu13, nvidia/cudnn and
# nvidia/nccl, and their libraries lack the names that a linker looks for.
bring_toolkit() {
    echo "downloading NVIDIA's toolkit from PyPI into build/cuda (1.1 GB)"
    rm -rf build/cuda.new
    mkdir -p build/cuda.new
    # shellcheck disable=SC2086 # a list
    /usr/bin/python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
        --no-deps --no-compile --only-binary=:all: --target build/cuda.new/wheels $toolkit
    for part in cu13 cudnn nccl; do
        (cd "build/cuda.new/wheels/nvidia/$part" && tar cf - .) | tar xf - -C build/cuda.new
        rm -rf "build/cuda.new/wheels/nvidia/$part"
    done
    for library in build/cuda.new/lib/lib*.so.*; do
        name=${library##*/}
        [ -e "${library%%.so.*}.so" ] || ln -s "$name" "${library%%.so.*}.so"
    done
    ln -s lib build/cuda.new/lib64
    build/cuda.new/bin/nvcc --version >/dev/null
    rm -rf build/cuda
    mv build/cuda.new build/cuda
    echo "build/cuda: $(build/cuda/bin/nvcc --version | sed -n 's/.*\(release.*\)/\1/p')"
}

# What is no package, once its packages are there.
bring_the_rest() {
    [ -z "$bring" ] || bring_toolkit
    [ -z "$locale" ] || [ -d build/locale/de_DE.UTF-8 ] || {
        mkdir -p build/locale
        localedef -f UTF-8 -i de_DE build/locale/de_DE.UTF-8
    }
}

want="$build $tests"
locale=""
case ${1:-check} in
    check) ;;
    pack) want="$want $packing" ;;
    proof)
        want="$want $proof"
        locale=yes
        [ "$(id -u)" = 0 ] || {
            echo "make proof: run it as root: slurmd starts jobs, and tests mount small disks, only then" >&2
            exit 1
        }
        [ "$cuda" = 0 ] || cuda=1
        ;;
    *) want="$want $style" ;;
esac
[ "$cuda" = 0 ] || [ -n "$gaps" ] || want="$want g++" # nvcc's host compiler
bring=""
if [ "$cuda" = 1 ] && [ -n "$gaps" ] && [ "${1:-check}" != check ]; then
    want="$want g++ python3-pip"
    bring=yes
fi

if ! command -v dpkg-query >/dev/null 2>&1; then
    # Not a Debian: the compiler will say what is missing; this list says what it was.
    # shellcheck disable=SC2086 # a list
    [ "${1:-check}" = check ] || echo "not a Debian system; Trireme needs the equivalents of:" $want
    bring_the_rest
    exit 0
fi

missing=""
for p in $want; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
if [ -z "$missing" ]; then
    bring_the_rest
    exit 0
fi

apt="env DEBIAN_FRONTEND=noninteractive apt-get"
line="apt-get update && apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
    as=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as="sudo"
else
    echo "some packages are missing; as root, run:" >&2
    echo "    $line" >&2
    exit 1
fi
echo "installing:$missing"
$as $apt update -qq
$as $apt install -y -qq --no-install-recommends $missing >/dev/null
bring_the_rest
