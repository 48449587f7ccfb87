from fourfold.text.example import InputExample


def test_examples_are_told_apart_by_identity_and_shown_in_short():
    example = InputExample(guid="g", texts=["a", "b"], label=0.5)
    assert str(example) == "<InputExample> label: 0.5, texts: a; b"
    assert example != InputExample(guid="g", texts=["a", "b"], label=0.5)
    assert len({example, InputExample()}) == 2
    assert InputExample().texts is None
