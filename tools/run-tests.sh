#!/bin/sh
# Runs each test executable in its own process with a time limit, LANES (2) at a time; ends with "N passed, N failed".
# Output of a test is shown when it fails, or always with V=1. What a program skips (cmocka's SKIPPED, or a
# line "skipped: reason") is said, and kept in the file $SKIPPED for tools/skipped.py; a line "result: text" is shown.
#
# run-tests.sh --one FOLDER TEST is one of them: it leaves what it has to say in FOLDER/passed, failed and skipped.

say() { # in one write, that lanes do not mix
    printf '%s\n' "$*"
}

one() {
    folder=$1
    t=$2
    out=$(mktemp "$folder/out.XXXXXX") || exit 255
    start=$(date +%s%N)
    if timeout -k 5 "${TEST_TIMEOUT:-600}" "$t" >"$out" 2>&1; then
        ms=$((($(date +%s%N) - start) / 1000000))
        count=$(grep -o '^\[  SKIPPED \] [a-z_0-9]*$' "$out" | sort -u | wc -l) # cmocka names each twice
        reason=$(sed -n 's/^skipped: //p' "$out" | head -n 1)
        [ -n "$reason" ] && [ "$count" = 0 ] && count=1
        reason=${reason:-it does not say why}
        line="  ok    ${t#*/tests/} ($ms ms)"
        if [ "$count" != 0 ]; then
            line="  ok    ${t#*/tests/} ($ms ms; $count skipped: $reason)"
            printf '%d\t%s\t%s\n' "$count" "${t#*/tests/}" "$reason" >>"$folder/skipped"
        fi
        if [ "${V:-0}" = 1 ]; then
            more=$(cat "$out")
        else
            more=$(sed -n 's/^result: /        /p' "$out")
        fi
        say "$line${more:+
$more}"
        echo "$t" >>"$folder/passed"
    else
        say "  FAIL  ${t#*/tests/} (exit code $?)
$(tail -n 60 "$out")"
        echo "$t" >>"$folder/failed"
    fi
    rm -f "$out"
    exit 0
}

[ "${1:-}" != --one ] || one "$2" "$3"

if [ $# = 0 ]; then
    echo "no test has that name: UNIT=json runs tests/unit/*/test_json.c" >&2
    exit 2
fi
# Memory that nobody has written yet, and memory that was freed, is not zero by chance.
export MALLOC_PERTURB_="${MALLOC_PERTURB_:-173}"
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
touch "$folder/passed" "$folder/failed" "$folder/skipped"
printf '%s\0' "$@" | xargs -0 -n 1 -P "${LANES:-2}" "$0" --one "$folder"
if [ -n "${SKIPPED:-}" ]; then
    mkdir -p "$(dirname "$SKIPPED")"
    sort -k 2 "$folder/skipped" >"$SKIPPED"
fi
passed=$(wc -l <"$folder/passed")
failed=$(wc -l <"$folder/failed")
left=$(awk '{ n += $1 } END { print n + 0 }' "$folder/skipped")
if [ "$left" = 0 ]; then
    echo "$passed passed, $failed failed"
else
    echo "$passed passed, $failed failed; $left of their tests skipped"
fi
[ "$((passed + failed))" = $# ] || echo "FAIL: $(($# - passed - failed)) did not run to their end" >&2
[ "$passed" = $# ]
