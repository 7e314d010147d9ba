# For scripts to source: the test suites, which run against the Postgres of PG_CONFIG.

failed=()

suite() {
    local name=$1
    shift
    printf '\n== %s\n' "$name"
    "$@" || failed+=("$name")
}

pgtap() {
    tests/with_cluster sh -c '
        psql -Xq -v ON_ERROR_STOP=1 -c "CREATE EXTENSION pgtap" -c "CREATE EXTENSION lockstep" &&
        pg_prove --ext .sql "$@"' sh "$@"
}

isolation() {
    tests/with_cluster tests/isolation/run
}

python_tests() {
    .venv/bin/python -m pytest -q -n "${TEST_PROCESSES:-3}" "$@"
}

conclude() {
    if [ ${#failed[@]} -gt 0 ]; then
        printf '\nfailed:'
        printf ' %s;' "${failed[@]}"
        printf '\n'
        exit 1
    fi
    printf '\nall suites passed\n'
}
