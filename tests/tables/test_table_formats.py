"""Tables in every format: literal texts, and names that are full of markup."""

import csv
import io
import re
from pathlib import Path

import pandas as pd
import pytest
from latex_compiler import compile_latex

from ensemble_eval.tables.formats import latex_text, markdown_text, table_csv, table_latex, table_markdown
from ensemble_eval.tables.table import Column, Table, marked, marks, shown, stored

COLUMNS = (
    Column("member", "member"),
    Column("images", "images", "count"),
    Column("error", "top-5 error", "percent"),
    Column("error", "95% interval", "percent interval"),
    Column("difference", "to base", "points"),
    Column("difference", "95% interval", "points interval"),
    Column("p", "p", "p"),
    Column("share", "share", "fraction"),
    Column("temperature", "T", "number"),
    Column("is_better", "better", "text"),
)
NASTY = (
    "<script>alert(1)</script>",
    "a\"b'c, d;e",
    r"50% of $x_1^2$ & #2 {~} \textbf{x} \input{/etc/passwd}",
    "*bold* `code` [link](http://x.y) | pipe\nline -- --- ?` !`",
    "中文 кот 🐈 naïve ẞ",
)
TABLE = Table(
    "members",
    "Errors by member",
    COLUMNS,
    (
        ("a", 50000, 10.0712345, (9.809, 10.337), -1e-9, (-0.2, 0.21), 0.0421, 0.5, 1.23456, True),
        ("b", 3, 100.0, (43.85, 100.0), -3.4, (-3.61, -3.19), 3e-9, 1 / 3, 12.0, False),
        ("c", None, None, None, None, None, None, None, None, None),
    ),
    ("One note.",),
)


def test_csv_is_written_literally_and_opens_in_pandas() -> None:
    text = table_csv(TABLE)
    assert text == (
        "member,images,error,error_low,error_high,difference,difference_low,difference_high,p,share,temperature,"
        "is_better\n"
        "a,50000,10.0712,9.8090,10.3370,0.0000,-0.2000,0.2100,0.0421,0.500000,1.23456,True\n"
        "b,3,100.0000,43.8500,100.0000,-3.4000,-3.6100,-3.1900,3e-09,0.333333,12,False\n"
        "c,,,,,,,,,,,\n"
    )
    frame = pd.read_csv(io.StringIO(text))
    assert frame["difference_low"].tolist()[:2] == [-0.2, -3.61]


def test_markdown_is_written_literally() -> None:
    assert table_markdown(TABLE.only("member", "images", "is_better")) == (
        "**Errors by member**\n\n"
        "| member | images | better |\n|---|--:|---|\n"
        "| a | 50000 | yes |\n| b | 3 | no |\n| c | – | – |\n\nOne note.\n"
    )


def test_latex_is_written_literally() -> None:
    assert table_latex(TABLE.only("member", "p")).splitlines()[4:14] == [
        r"  \label{tab:members}",
        r"  \begin{tabular}{@{}lr@{}}",
        r"    \toprule",
        r"    member & p \\",
        r"    \midrule",
        r"    a & 0.042 \\",
        r"    b & \textless{}0.001 \\",
        r"    c & -- \\",
        r"    \bottomrule",
        r"  \end{tabular}",
    ]


def test_cells_for_people_round_and_sign() -> None:
    assert TABLE.cells()[0] == [
        *("a", "50000", "10.07%", "9.8 to 10.3%", "0.00", "-0.20 to +0.21", "0.042", "0.500", "1.235", "yes"),
    ]
    assert shown(1.0, "p") == "1"
    assert stored(-0.00001, "points") == ["0.0000"]


def test_a_long_table_says_where_the_rest_is() -> None:
    assert TABLE.first(3) is TABLE
    short = TABLE.first(1)
    assert len(short.rows) == 1
    assert short.notes[-1] == "The first 1 of 3 rows; members.csv has all of them."


def test_partial_tables_say_so_in_every_format() -> None:
    assert marked(TABLE, marks(0, 9)) == TABLE
    partial = marked(TABLE, marks(2, 9))
    assert partial.title == "Partial: Errors by member"
    assert partial.notes[0] == (
        "2 of 9 images are missing, so every number here may change and none is a reason to stop."
    )
    assert pd.read_csv(io.StringIO(table_csv(partial)))["partial"].tolist() == [True] * 3
    assert table_markdown(partial).startswith("**Partial: ")
    assert r"\caption{Partial: " in table_latex(partial)


@pytest.mark.parametrize("name", ["=cmd()", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_words_that_a_spreadsheet_would_run_are_quoted_and_numbers_are_not(name: str) -> None:
    columns = (Column("class", "class"), Column("images", "images", "count"), Column("moved", "moved", "points"))
    table = Table("classes", "Classes", columns, ((name, -3, -1.5), (f"a{name}", 2, 0.25)))
    [_, run, plain] = csv.reader(io.StringIO(table_csv(table), newline=""))
    assert run == [f"'{name}", "-3", "-1.5000"]
    assert plain == [f"a{name}", "2", "0.2500"]


def test_what_is_counted_is_said_in_every_format() -> None:
    counted = marked(TABLE, marks(0, 9, ["the first 9 of 12 images", "labels are ranked among 5 classes only"]))
    phrases = "the first 9 of 12 images; labels are ranked among 5 classes only"
    assert pd.read_csv(io.StringIO(table_csv(counted)))["counted"].tolist() == [phrases] * 3
    assert f"\nCounted: {phrases}.\n" in table_markdown(counted)
    assert f"Counted: {phrases}." in table_latex(counted)
    assert counted.title == TABLE.title


def nasty_table() -> Table:
    return Table("names", " ".join(NASTY), (Column("name", NASTY[0]),), tuple((name,) for name in NASTY))


def test_names_with_markup_stay_names_in_markdown() -> None:
    text = table_markdown(nasty_table())
    assert not re.search(r"(?<!\\)[<`*\[$_]", text.replace("**", ""))
    assert len(text.splitlines()) == 4 + len(NASTY)
    assert markdown_text("a|b_c") == r"a\|b\_c"


def test_names_with_markup_stay_names_in_latex() -> None:
    assert latex_text(NASTY[2]) == (
        r"50\% of \$x\_1\textasciicircum{}2\$ \& \#2 \{\textasciitilde{}\} \textbackslash{}textbf\{x\} "
        r"\textbackslash{}input\{/etc/passwd\}"
    )
    assert latex_text("中 a--b") == "{[}U+4E2D] a-{}-b"


@pytest.mark.slow
@pytest.mark.processes
def test_latex_compiles_without_a_complaint(tmp_path: Path) -> None:
    compile_latex(
        tmp_path, [table_latex(nasty_table()), table_latex(TABLE.only("member", "error", "difference", "p"))]
    )
