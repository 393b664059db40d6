"""Tables as CSV, as GitHub's Markdown, as HTML, and as LaTeX with booktabs; and objects as HTML for notebooks.

All formats show the cells of `Table.cells`; only CSV has more digits. Names are escaped, so that none becomes
markup.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import fields
from html import escape

from ensemble_eval import fields as checks
from ensemble_eval.files import csv_text
from ensemble_eval.tables.table import Column, Table, stored


def table_csv(table: Table) -> str:
    """A header and one line per row; marks are the last columns, with the same value in every line.

    Example:
        >>> from ensemble_eval.tables.table import Column
        >>> columns = (Column("size", "members", "count"), Column("error", "error", "percent"))
        >>> table_csv(Table("sizes", "Errors by size", columns, ((1, 10.07), (7, None))))
        'size,error\\n1,10.0700\\n7,\\n'
    """
    keys = [key for column in table.columns for key in column.keys]
    kinds = [column.kind for column in table.columns]
    values = [mark.value for mark in table.marks]
    cells = ([text for cell in zip(row, kinds, strict=True) for text in stored(*cell)] for row in table.rows)
    return csv_text([*keys, *(mark.column for mark in table.marks)], ([*row, *values] for row in cells))


# Any ASCII punctuation may be escaped (CommonMark 0.31, 2.4); these characters begin markup in a cell.
_MARKUP = re.compile(r"([\\\x60*_{}\[\]<>&#|~!$@]|:(?=\S)|(?<=w)\.(?=\w)|(?<=^)[-+=](?=\s|$))")


def table_markdown(table: Table) -> str:
    """A heading, the table, and its notes.

    Example:
        >>> from ensemble_eval.tables.table import Column
        >>> columns = (Column("member", "member"), Column("error", "error", "percent"))
        >>> print(table_markdown(Table("members", "Errors by member", columns, (("a|b", 10.07),))), end="")
        **Errors by member**
        <BLANKLINE>
        | member | error |
        |---|--:|
        | a\\|b | 10.07% |
    """
    lines = [[column.title for column in table.columns], *table.cells()]
    header, *rows = ["| " + " | ".join(map(markdown_text, line)) + " |" for line in lines]
    rule = "|" + "|".join("---" if column.is_text else "--:" for column in table.columns) + "|"
    notes = [f"\n{markdown_text(note)}" for note in table.notes]
    return "\n".join([f"**{markdown_text(table.title)}**", "", header, rule, *rows, *notes]) + "\n"


def markdown_text(text: str) -> str:
    """Text that Markdown shows unchanged, on one line.

    Example:
        >>> markdown_text("a*b <i>c</i>")
        'a\\\\*b \\\\<i\\\\>c\\\\</i\\\\>'
    """
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


# Longer cells are wrapped in a page.
_SHORT_CELL = 28


def table_html(table: Table) -> str:
    """A `table` element whose caption and headers screen readers name.

    Example:
        >>> from ensemble_eval.tables.table import Column
        >>> columns = (Column("member", "member"), Column("error", "error", "percent"))
        >>> print(table_html(Table("members", "Errors", columns, (("a<b", 10.07),))))
        <table><caption>Errors</caption>
        <thead><tr><th scope="col">member</th><th scope="col" class="number">error</th></tr></thead>
        <tbody>
        <tr><th scope="row">a&lt;b</th><td class="number">10.07%</td></tr>
        </tbody></table>
    """
    head = "".join(_html_cell("th", "col", column.title, column) for column in table.columns)
    rows = (
        "".join(
            _html_cell("td" if at else "th", "" if at else "row", text, column)
            for at, (text, column) in enumerate(zip(cells, table.columns, strict=True))
        )
        for cells in table.cells()
    )
    return "\n".join(
        [
            f"<table><caption>{escape(table.title)}</caption>",
            f"<thead><tr>{head}</tr></thead>",
            "<tbody>",
            *(f"<tr>{row}</tr>" for row in rows),
            "</tbody></table>",
        ]
    )


def _html_cell(tag: str, scope: str, text: str, column: Column) -> str:
    classes = ["number"] * (not column.is_text) + ["long"] * (len(text) > _SHORT_CELL)
    attributes = f' scope="{scope}"' * bool(scope) + f' class="{" ".join(classes)}"' * bool(classes)
    return f"<{tag}{attributes}>{escape(text)}</{tag}>"


class Displayed:
    """Shows a dataclass by a few facts: `repr` is one line, and notebooks show a table.

    A dataclass that inherits from it is declared with `repr=False`.
    """

    def _facts(self) -> Mapping[str, object]:
        """The facts by their names; by default the fields that are not empty."""
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.repr}  # type: ignore[arg-type]  # dataclasses only
        return {name: value for name, value in values.items() if value or type(value) in (int, float)}

    def _tables(self) -> Iterable[Table]:
        """Tables that a notebook shows below the facts."""
        return ()

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}={checks.shown(value)}" for name, value in self._facts().items())
        return f"{type(self).__name__}({facts})"

    def _repr_html_(self) -> str:
        facts = tuple((name, checks.shown(value)) for name, value in self._facts().items())
        columns = Column("fact", "fact"), Column("value", "value")
        return "\n".join(map(table_html, (Table("facts", type(self).__name__, columns, facts), *self._tables())))


_ESCAPES = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    # After the end of a row these would be its argument.
    "[": "{[}",
    "*": "{*}",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",
    "\N{MINUS SIGN}": "$-$",
    "×": r"$\times$",
    "≠": r"$\neq$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "’": "'",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "§": r"\textsection{}",
}
# Separates two characters that must not become a ligature; no text contains it.
_BREAK = "\0"
_ESCAPES[_BREAK] = "{}"
# The default fonts of pdfTeX have these.
_LATIN = frozenset("ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿß")
# TeX would join these characters to others by ligatures.
_LIGATURES = re.compile(r"(?<=[`',?!-])(?=[`',?!-])")
_NUMBER = re.compile(r"(?<![\w.])-(?=\d)")


def table_latex(table: Table) -> str:
    """A `table` environment with a caption, a label and booktabs' rules, for `\\input` in a document.

    Characters that the usual fonts of pdfTeX lack, such as those of other scripts, become their code point:
    `[U+4E2D]`.

    Example:
        >>> from ensemble_eval.tables.table import Column
        >>> columns = (Column("member", "member"), Column("to_base", "to base", "points"))
        >>> print(table_latex(Table("members", "Errors by member", columns, (("a_b", -1.5),))), end="")
        % needs \\usepackage{booktabs}
        \\begin{table}
          \\centering\\footnotesize\\setlength{\\tabcolsep}{2.5pt}
          \\caption{Errors by member}
          \\label{tab:members}
          \\begin{tabular}{@{}lr@{}}
            \\toprule
            member & \\shortstack[r]{to \\\\ base} \\\\
            \\midrule
            a\\_b & $-$1.50 \\\\
            \\bottomrule
          \\end{tabular}
        \\end{table}
    """
    caption = " ".join(map(latex_text, (f"{table.title}." if table.notes else table.title, *table.notes)))
    alignment = "".join("l" if column.is_text else "r" for column in table.columns)
    header = " & ".join(map(_heading, table.columns))
    rows = [" & ".join(_cell(*cell) for cell in zip(line, table.columns, strict=True)) for line in table.cells()]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"  \centering\footnotesize\setlength{\tabcolsep}{2.5pt}",
            rf"  \caption{{{caption}}}",
            rf"  \label{{tab:{table.name}}}",
            rf"  \begin{{tabular}}{{@{{}}{alignment}@{{}}}}",
            r"    \toprule",
            rf"    {header} \\",
            r"    \midrule",
            *(rf"    {row} \\" for row in rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _heading(column: Column) -> str:
    """A title with one word per line, because numbers are narrow."""
    words = [latex_text(word) for word in column.title.split()]
    if len(words) == 1:
        return words[0]
    side, lines = "l" if column.is_text else "r", r" \\ ".join(words)
    return rf"\shortstack[{side}]{{{lines}}}"


def _cell(text: str, column: Column) -> str:
    # A dash makes intervals of errors narrower; intervals of differences may have minus signs.
    return latex_text(text.replace(" to ", "–") if column.kind == "percent interval" else text)


def latex_text(text: str) -> str:
    """Text that TeX typesets unchanged, on one line; a hyphen before a digit becomes a minus sign.

    Example:
        >>> print(latex_text("50% of #1_a"), latex_text("-3.40 to +1"), latex_text("中"))
        50\\% of \\#1\\_a $-$3.40 to +1 {[}U+4E2D]
    """
    text = unicodedata.normalize("NFC", " ".join(text.split())).replace(_BREAK, "")
    return "".join(map(_typeset, _NUMBER.sub("\N{MINUS SIGN}", _LIGATURES.sub(_BREAK, text))))


def _typeset(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if (character.isascii() and character.isprintable()) or character in _LATIN:
        return character
    return f"{{[}}U+{ord(character):04X}]"
