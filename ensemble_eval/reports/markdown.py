"""Tables as GitHub's Markdown. Names are escaped, so that none becomes markup."""

import re

from ensemble_eval.reports.tables import Table

# All of ASCII's punctuation may be escaped (CommonMark 0.31, 2.4); these begin something in a cell.
_MARKUP = re.compile(r"([\\\x60*_{}\[\]<>&#|~!$@]|:(?=\S)|(?<=w)\.(?=\w)|(?<=^)[-+=](?=\s|$))")


def table_markdown(table: Table) -> str:
    """A heading, the table, and its notes.

    Example:
        >>> from ensemble_eval.reports.tables import Column
        >>> columns = (Column("member", "member"), Column("error", "error", "percent"))
        >>> print(table_markdown(Table("members", "Errors by member", columns, (("a|b", 10.07),))), end="")
        **Errors by member**
        <BLANKLINE>
        | member | error |
        |---|--:|
        | a\\|b | 10.07% |
    """
    lines = [
        [column.title for column in table.columns],
        *table.cells(),
    ]
    header, *rows = ["| " + " | ".join(map(markdown_text, line)) + " |" for line in lines]
    rule = "|" + "|".join("---" if column.is_text else "--:" for column in table.columns) + "|"
    notes = [f"\n{markdown_text(note)}" for note in table.notes]
    return "\n".join([f"**{markdown_text(table.title)}**", "", header, rule, *rows, *notes]) + "\n"


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is, on one line.

    Example:
        >>> markdown_text("a*b <i>c</i>")
        'a\\\\*b \\\\<i\\\\>c\\\\</i\\\\>'
    """
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))
