"""
Check what is between $$ and $$, where sqlfluff does not look.

Every function body must parse as PL/pgSQL (pglast), and its SQL keywords be upper case.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pglast
from pglast.parser import parse_plpgsql_json, scan

ROOT = Path(__file__).parent.parent
BODY = re.compile(r"^AS \$\$\n(.*?)^\$\$;", re.DOTALL | re.MULTILINE)
WORDS = (
    "AND ARRAY AS BEGIN BY CASE CONFLICT CONTINUE DECLARE DELETE DISTINCT DO ELSE ELSIF END "
    "ERRCODE EXCEPTION EXECUTE EXISTS EXIT FOR FOUND FROM GROUP IF IN INNER INSERT INTO IS JOIN "
    "LATERAL LIMIT LOCKED LOOP MATERIALIZED NOT NULL ON OR ORDER PERFORM QUERY RAISE RETURN "
    "RETURNING SELECT SET SKIP THEN UPDATE USING VALUES WHEN WHERE WITH"
)
KEYWORDS = frozenset(WORDS.split())


def findings(path: Path) -> list[str]:
    """Return what is wrong with the function bodies of a file."""
    text = path.read_text()
    found = []
    for match in BODY.finditer(text):
        first_line = text.count("\n", 0, match.start(1)) + 1
        body = match.group(1)
        for token in scan(body):
            word = body[token.start : token.end + 1]
            if word.upper() in KEYWORDS and word != word.upper() and token.kind != "NO_KEYWORD":
                line = first_line + body.count("\n", 0, token.start)
                found.append(f"{path.relative_to(ROOT)}:{line}: keyword {word} must be upper case")
    if "LANGUAGE plpgsql" in text:
        try:
            statement = text[text.index("CREATE") :]
            json.loads(parse_plpgsql_json(statement))
        except pglast.parser.ParseError as error:
            found.append(f"{path.relative_to(ROOT)}: {error}")
    return found


def main() -> int:
    paths = sorted((ROOT / "sql").rglob("*.sql"))
    found = [line for path in paths for line in findings(path)]
    print("\n".join([*found, f"function bodies: {len(paths)} files, {len(found)} findings"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
