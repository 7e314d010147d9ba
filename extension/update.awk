# Prints those modules that a release does not have, or has otherwise, for the update of it.
#
#     awk -v version=NEW -f extension/update.awk RELEASED_SCRIPT MODULE...
#
# A function or view of the release is replaced, which keeps its grants and what depends
# on it; a new one is created, so that a name which somebody took fails loudly. Tables of
# the release are left to the hand-written part of the update, sql/95_update/OLD--NEW.sql.

function text_of(path,    line, text, is_read) {
    while ((is_read = (getline line < path)) > 0) {
        gsub(/@VERSION@/, version, line)
        text = text line "\n"
    }
    if (is_read < 0) {
        print "cannot read " path > "/dev/stderr"
        exit 1
    }
    close(path)
    return text
}

# the module as an install script has it
function installed(text) {
    gsub(/\nCREATE OR REPLACE /, "\nCREATE ", text)
    sub(/^CREATE OR REPLACE /, "CREATE ", text)
    return text
}

# the module with OR REPLACE where the release has a function or view of that name
function updating(text,    lines, count, i, words, name, result) {
    count = split(text, lines, "\n")
    for (i = 1; i < count; i++) {
        if (lines[i] ~ /^CREATE OR REPLACE /) {
            split(lines[i], words, /[ (]/)
            name = words[4] " " words[5]
            if (!index(released, "\nCREATE " name "(") && !index(released, "\nCREATE " name " "))
                sub(/ OR REPLACE/, "", lines[i])
        }
        result = result lines[i] "\n"
    }
    return result
}

BEGIN {
    released = text_of(ARGV[1])
    for (i = 2; i < ARGC; i++) {
        text = text_of(ARGV[i])
        is_table_of_release = ARGV[i] ~ /\/20_tables\// && index(released, "\n-- " ARGV[i] "\n")
        if (!is_table_of_release && !index(released, installed(text)))
            printf "\n-- %s\n\n%s", ARGV[i], updating(text)
    }
}
