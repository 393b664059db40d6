from ensemble_eval.paper.text import gain_text, saved_text, table3_csv, table3_text, unreadable_csv
from ensemble_eval.scoring.table3 import Gain, Row

ROWS = [
    Row(1, 1, 1, 10.07, 0.0, 30.5, 5035, 15250, 50000, 9.809, 10.337),
    Row(1, 10, 10, 10.07, -1e-9, 30.0, 5035, 15000, 50000, 9.809, 10.337),
    Row(7, 144, 1008, 6.67, -3.4, 25.0, 3335, 12500, 50000, 6.4543, 6.8923),
    Row(2, 3, 6, 100 / 3, 23.26333, 200 / 3, 1, 2, 3, 6.14919, 79.23404),
]


def test_table3_csv_is_written_literally() -> None:
    assert table3_csv(ROWS) == (
        "models,crops,cost,top5_error,compared_to_base,top1_error,top5_wrong,top1_wrong,images,top5_low,top5_high\n"
        "1,1,1,10.0700,0.0000,30.5000,5035,15250,50000,9.8090,10.3370\n"
        "1,10,10,10.0700,0.0000,30.0000,5035,15000,50000,9.8090,10.3370\n"
        "7,144,1008,6.6700,-3.4000,25.0000,3335,12500,50000,6.4543,6.8923\n"
        "2,3,6,33.3333,23.2633,66.6667,1,2,3,6.1492,79.2340\n"
    )


def test_the_text_table_has_the_papers_column_and_names_the_base() -> None:
    assert table3_text(ROWS) == [
        ["models", "crops", "cost", "top-5", "95% interval", "to base", "top-1", "paper"],
        ["1", "1", "1", "10.07%", "9.8 to 10.3%", "base", "30.50%", "10.07%"],
        ["1", "10", "10", "10.07%", "9.8 to 10.3%", "+0.00%", "30.00%", "9.15%"],
        ["7", "144", "1008", "6.67%", "6.5 to 6.9%", "-3.40%", "25.00%", "6.67%"],
        ["2", "3", "6", "33.33%", "6.1 to 79.2%", "+23.26%", "66.67%", "–"],
    ]


def test_unreadable_images_are_sorted_and_quoted() -> None:
    listed = unreadable_csv([("b/2.png", 'damaged: "x", y'), ("a/1.png", "not an image")])
    assert listed == 'image,reason\na/1.png,not an image\nb/2.png,"damaged: ""x"", y"\n'
    assert unreadable_csv([]) == "image,reason\n"


def test_the_gain_is_one_sentence() -> None:
    assert gain_text(Gain(-3.4, -3.61, -3.19, -33.76)) == (
        "last row against the first: -3.40 points of top-5 error (-34% of the base's error); "
        "95% interval of the difference, paired by image: -3.61 to -3.19"
    )
    assert "base's" not in gain_text(Gain(0.0, -1.0, 1.0, None))


def test_what_a_decided_run_does_not_know_stays_empty() -> None:
    row = Row(3, 144, 432, 2.5, -0.5, None, 5, None, 200, 1.0725, 5.7178)
    assert table3_csv([row]).splitlines()[1] == "3,144,432,2.5000,-0.5000,,5,,200,1.0725,5.7178"
    assert table3_text([row])[1][6] == "–"


def test_the_passes_that_were_saved_are_one_sentence() -> None:
    assert saved_text(300, 700) == ("300 passes decided the table; in full they would have been 1000 (30.0%)")
