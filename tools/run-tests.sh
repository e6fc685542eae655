#!/bin/sh
# Runs each test executable in its own process with a time limit; ends with "N passed, N failed".
# Output of a test is shown when it fails, or always with V=1. What a program skips (cmocka's SKIPPED, or a
# line "skipped: reason") is said, and kept in the file $SKIPPED for tools/skipped.py; a line "result: text" is shown.
if [ $# = 0 ]; then
    echo "no test has that name: UNIT=json runs tests/unit/*/test_json.c" >&2
    exit 2
fi
# Memory that nobody has written yet, and memory that was freed, is not zero by chance.
export MALLOC_PERTURB_="${MALLOC_PERTURB_:-173}"
passed=0
failed=0
left=0
out=$(mktemp)
trap 'rm -f "$out"' EXIT
if [ -n "${SKIPPED:-}" ]; then
    mkdir -p "$(dirname "$SKIPPED")"
    : >"$SKIPPED"
fi
for t in "$@"; do
    start=$(date +%s%N)
    if timeout -k 5 "${TEST_TIMEOUT:-600}" "$t" >"$out" 2>&1; then
        passed=$((passed + 1))
        ms=$((($(date +%s%N) - start) / 1000000))
        count=$(grep -o '^\[  SKIPPED \] [a-z_0-9]*$' "$out" | sort -u | wc -l) # cmocka names each twice
        reason=$(sed -n 's/^skipped: //p' "$out" | head -n 1)
        [ -n "$reason" ] && [ "$count" = 0 ] && count=1
        if [ "$count" = 0 ]; then
            printf '  ok    %s (%d ms)\n' "${t#*/tests/}" "$ms"
        else
            left=$((left + count))
            printf '  ok    %s (%d ms; %d skipped: %s)\n' "${t#*/tests/}" "$ms" "$count" "${reason:-it does not say why}"
            [ -z "${SKIPPED:-}" ] ||
                printf '%d\t%s\t%s\n' "$count" "${t#*/tests/}" "${reason:-it does not say why}" >>"$SKIPPED"
        fi
        sed -n 's/^result: /        /p' "$out"
        [ "${V:-0}" = 1 ] && cat "$out"
    else
        rc=$?
        failed=$((failed + 1))
        printf '  FAIL  %s (exit code %d)\n' "${t#*/tests/}" "$rc"
        tail -n 60 "$out"
    fi
done
if [ "$left" = 0 ]; then
    echo "$passed passed, $failed failed"
else
    echo "$passed passed, $failed failed; $left of their tests skipped"
fi
[ "$failed" = 0 ]
