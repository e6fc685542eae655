#!/bin/sh
# Runs each test executable in its own process with a time limit; ends with "N passed, N failed".
# Output of a test is shown when it fails, or always with V=1.
passed=0
failed=0
out=$(mktemp)
trap 'rm -f "$out"' EXIT
for t in "$@"; do
    start=$(date +%s%N)
    if timeout -k 5 "${TEST_TIMEOUT:-120}" "$t" >"$out" 2>&1; then
        passed=$((passed + 1))
        printf '  ok    %s (%d ms)\n' "${t#*/tests/}" $((($(date +%s%N) - start) / 1000000))
        [ "${V:-0}" = 1 ] && cat "$out"
    else
        rc=$?
        failed=$((failed + 1))
        printf '  FAIL  %s (exit code %d)\n' "${t#*/tests/}" "$rc"
        tail -n 60 "$out"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
