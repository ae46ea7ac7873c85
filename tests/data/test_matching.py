"""The categories that a written value means."""

import pytest

from discrete_grad.data import TableError, Vocabulary

PRICE = Vocabulary.binned("price", (0.0, 10.0, 12.5, 20.0), missing=True)
LAYERS = Vocabulary("layers", (1, 2, 4))
RATE = Vocabulary("rate", (0.1, 0.25, None))
FLAG = Vocabulary("flag", (False, True))
SIZE = Vocabulary("size", ("10", "2", "2.5"))  # of a CSV file
WORD = Vocabulary("word", ("1..3", "7", "large"))
MANY = Vocabulary("many", tuple(range(7)))
PRICES = "there are '[0, 10]', '(10, 12.5]', '(12.5, 20]', '(missing)'"
WORDS = "there are '1..3', '7', 'large'"


@pytest.mark.parametrize(
    ("column", "wanted", "found"),
    [
        (PRICE, "(10, 12.5]", ["(10, 12.5]"]),
        (PRICE, "(missing)", ["(missing)"]),
        # the lower end of an interval is not part of it, except of the first
        (PRICE, 0, ["[0, 10]"]),
        (PRICE, 10, ["[0, 10]"]),
        (PRICE, "10.01", ["(10, 12.5]"]),
        (PRICE, 20.0, ["(12.5, 20]"]),
        # wholly inside
        (PRICE, "10..20", ["(10, 12.5]", "(12.5, 20]"]),
        (PRICE, "9..19", ["(10, 12.5]"]),
        (PRICE, "..12.5", ["[0, 10]", "(10, 12.5]"]),
        (PRICE, "12.5..", ["(12.5, 20]"]),
        (LAYERS, 2, ["2"]),
        (LAYERS, "2", ["2"]),
        (LAYERS, 2.0, ["2"]),
        (LAYERS, "2..9", ["2", "4"]),
        (RATE, 0.1, ["0.1"]),
        (RATE, "0..1", ["0.1", "0.25"]),
        (FLAG, "true", ["True"]),
        (FLAG, True, ["True"]),
        (SIZE, "2..9", ["2", "2.5"]),
        (SIZE, 2.0, ["2"]),
        (WORD, "1..3", ["1..3"]),
        (WORD, 7, ["7"]),
    ],
)
def test_a_value_means_categories(column: Vocabulary, wanted: object, found: list[str]) -> None:
    assert list(column.matching(wanted)) == found


@pytest.mark.parametrize(
    ("column", "wanted", "told"),
    [
        (PRICE, 20.01, f"feature 'price': no category is 20.01; {PRICES}"),
        (PRICE, "11..12", f"feature 'price': no category lies wholly in 11..12; {PRICES}"),
        (PRICE, "cheap", f"feature 'price': no category is cheap; {PRICES}"),
        (PRICE, float("nan"), f"feature 'price': no category is nan; {PRICES}"),
        (LAYERS, 3, "feature 'layers': no category is 3; there are '1', '2', '4'"),
        (LAYERS, "5..9", "feature 'layers': no category is '5..9'; there are '1', '2', '4'"),
        (FLAG, "0", "feature 'flag': no category is '0'; there are 'False', 'True'"),
        (FLAG, "yes", "feature 'flag': no category is 'yes'; there are 'False', 'True'"),
        (SIZE, "3", "feature 'size': no category is '3'; there are '10', '2', '2.5'"),
        (WORD, "larg", f"feature 'word': no category is 'larg'; {WORDS}; did you mean 'large'?"),
        (WORD, "2..3", f"feature 'word': no category is '2..3'; {WORDS}; did you mean '1..3'?"),
        (
            MANY,
            9,
            "feature 'many': no category is 9; there are '0', '1', '2', '3', '4', '5', and 1 more",
        ),
    ],
)
def test_a_value_that_means_none_is_told(column: Vocabulary, wanted: object, told: str) -> None:
    with pytest.raises(TableError) as caught:
        column.matching(wanted)
    assert str(caught.value) == told
