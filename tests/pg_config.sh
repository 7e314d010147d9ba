# For scripts to source: finds the Postgres of PG_CONFIG, installs the extension into it, and
# the packages of the system that tests need.

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

has_server() {
    command -v "$1" >/dev/null && [ -x "$("$1" --bindir)/postgres" ]
}

find_pg_config() {
    has_server "${PG_CONFIG:=pg_config}" ||
        PG_CONFIG=$(ls -d /usr/lib/postgresql/*/bin/pg_config 2>/dev/null | sort -V | tail -n 1)
    [ -n "$PG_CONFIG" ] && has_server "$PG_CONFIG"
}

major_of() {
    "$1" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/'
}

install_extension() {
    if [ -w "$("$PG_CONFIG" --sharedir)/extension" ]; then
        make -s install PG_CONFIG="$PG_CONFIG" >/dev/null
    else
        as_root make -s install PG_CONFIG="$PG_CONFIG" >/dev/null
    fi
}

# A server of a Debian package comes with a cluster that runs at once; ours do not need it.
apt_install() {
    local no_cluster=/etc/postgresql-common/createcluster.d/lockstep-tests.conf
    as_root mkdir -p "${no_cluster%/*}"
    echo 'create_main_cluster = false' | as_root tee "$no_cluster" >/dev/null
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "$@" >/dev/null
    as_root rm "$no_cluster"
}

install_packages() {
    if command -v apt-get >/dev/null; then
        find_pg_config || { apt_install postgresql && find_pg_config; } || return
        local major packages
        major=$(major_of "$PG_CONFIG")
        packages=("postgresql-$major-cron" "postgresql-$major-pgtap" "postgresql-$major-plpgsql-check"
            libtap-parser-sourcehandler-pgtap-perl pgbouncer faketime)
        dpkg -s "${packages[@]}" >/dev/null 2>&1 || apt_install "${packages[@]}"
    elif command -v brew >/dev/null; then
        brew install --quiet postgresql@18 pg_cron pgtap plpgsql_check pgbouncer
        find_pg_config
    else
        echo 'tests need apt or brew to install Postgres, pg_cron, pgTAP, plpgsql_check and PgBouncer' >&2
        return 1
    fi
}
