from __future__ import annotations

from fourfold.search.excerpt import excerpt, found_words


def test_found_words_share_a_stem():
    text = "He runs; the runner's run_time is not RUNNING."
    assert [text[a:b] for a, b in found_words(text, "how to run")] == ["runs", "run_time", "RUNNING"]


def test_excerpt_shows_the_sentences_that_answer():
    text = "Filler words stand here. " * 30 + "The heron waits at the river. " + "More filler follows. " * 30
    shown = excerpt(text, "heron river", limit=20)
    assert "The heron waits at the river." in shown
    assert shown.startswith("… ")
    assert shown.endswith(" …")
    assert len(shown.split()) <= 22


def test_a_short_text_is_shown_whole():
    assert excerpt("two words", "nothing") == "two words"
