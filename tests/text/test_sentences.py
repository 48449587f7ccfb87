from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fourfold.text.sentences import sentences

texts = st.text(st.sampled_from('ab Z.!?\n\t1-。é("') | st.characters(exclude_categories=["Cs"]), max_size=400)


@given(texts)
def test_sentences_join_to_the_text(text):
    assert "".join(sentences(text)) == text


def test_abbreviations_and_initials_do_not_end_a_sentence():
    text = "Mr. J. Smith, i.e. He, met Fig. 3. It is version 1.5 now! (Is it?) Yes…\n- One\n- Two"
    assert list(sentences(text)) == [
        "Mr. J. Smith, i.e. He, met Fig. 3. ",
        "It is version 1.5 now! ",
        "(Is it?) ",
        "Yes…\n",
        "- One\n",
        "- Two",
    ]
