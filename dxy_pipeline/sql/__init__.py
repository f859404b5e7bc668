"""Named SQL, kept in files so that it can be read, linted and tested as SQL.

`load("queries/fx_frame")` returns the text of `sql/queries/fx_frame.sql`. `render` fills the few constants that must
come from one place in Python (index weights): `$name` placeholders, never values from a user.
"""

from functools import cache
from importlib.resources import files
from string import Template
from typing import LiteralString, cast


@cache
def load(name: str) -> LiteralString:
    """Return the SQL text of `sql/<name>.sql`; raises FileNotFoundError for an unknown name."""
    return cast("LiteralString", files(__package__).joinpath(f"{name}.sql").read_text(encoding="utf-8"))


def render(name: str, constants: dict[str, str]) -> LiteralString:
    """Return the SQL text with `$name` placeholders filled from project constants.

    `$$` and `$body$` quoting of PostgreSQL stay as they are: only `${name}` is replaced.
    """

    class _Braced(Template):
        pattern = r"""
            \$(?:
              (?P<escaped>(?!)) | (?P<named>(?!)) | \{(?P<braced>[a-z_]+)\} | (?P<invalid>(?!))
            )"""  # type: ignore[assignment]

    return cast("LiteralString", _Braced(load(name)).substitute(constants))
