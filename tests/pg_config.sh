# For scripts to source: finds the Postgres of PG_CONFIG and installs the extension into it.

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

install_extension() {
    if [ -w "$("$PG_CONFIG" --sharedir)/extension" ]; then
        make -s install PG_CONFIG="$PG_CONFIG" >/dev/null
    else
        as_root make -s install PG_CONFIG="$PG_CONFIG" >/dev/null
    fi
}
