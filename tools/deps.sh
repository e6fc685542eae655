#!/bin/sh
# Makes sure of the Debian packages that Trireme needs.
#   tools/deps.sh check    install what is missing; say nothing when all is there (make runs this)
#   tools/deps.sh install  the same, verbosely, and the packages of lint and format too
# With no right to install it prints the one line to run and stops with exit code 1.
set -eu

build="gcc make pkg-config libc6-dev libdnnl-dev openmpi-bin libopenmpi-dev libzmq3-dev liblmdb-dev
libyaml-dev libjansson-dev libzstd-dev libssl-dev zlib1g-dev"
tests="libcmocka-dev python3 python3-pytest python3-zmq python3-numpy python3-onnx
dataset-fashion-mnist procps"
style="clang-format-14 cppcheck"

want="$build $tests"
[ "${1:-check}" = check ] || want="$want $style"

if ! command -v dpkg-query >/dev/null 2>&1; then
    # Not a Debian: the compiler will say what is missing; this list says what it was.
    [ "${1:-check}" = check ] || echo "not a Debian system; Trireme needs the equivalents of:" $want
    exit 0
fi

# A stamp saves the 30 ms of asking on every make.
missing=""
for p in $want; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

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
