"""Named SQL, kept in files so that it can be read, linted and tested as SQL.

`load("queries/fx_frame")` returns the text of `sql/queries/fx_frame.sql`. `render` fills the few constants that must
come from one place in Python (index weights): `$name` placeholders, never values from a user.
"""

import re
from functools import cache
from importlib.resources import files
from typing import LiteralString, cast

from psycopg import sql


@cache
def load(name: str) -> LiteralString:
    """Return the SQL text of `sql/<name>.sql`; raises FileNotFoundError for an unknown name."""
    return cast("LiteralString", files(__name__).joinpath(f"{name}.sql").read_text(encoding="utf-8"))


def render(name: str, constants: dict[str, str]) -> LiteralString:
    """Return the SQL text with `$name` placeholders filled from project constants.

    `$$` and `$body$` quoting of PostgreSQL stay as they are: only `${name}` is replaced.
    """

    text = re.sub(r"\$\{([a-z_]+)\}", lambda match: constants[match[1]], load(name))
    return cast("LiteralString", text)


def trusted(text: str) -> sql.SQL:
    """Return text as SQL to compose with: what the server's catalog spelled or a constant of this project.

    Never a user's words: those are parameters.
    """
    return sql.SQL(cast("LiteralString", text))
