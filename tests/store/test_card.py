from fourfold.store.card import Facts, generate, read
from fourfold.store.source import Source


def test_a_card_has_front_matter_and_sections():
    facts = Facts("Title", ["a", "b"], "task", "One sentence.", {"Size": "3"}, "Model()", "print(1)", ["data"])
    text = generate(facts)
    front, body = text.split("---\n")[1:]
    assert front.splitlines() == [
        "tags:", "- a", "- b", "datasets:", "- data", "pipeline_tag: task", "library_name: sentence-transformers",
    ]  # fmt: skip
    for part in ("# Title", "One sentence.", "- **Size:** 3", "```\nModel()\n```", "```python\nprint(1)\n```"):
        assert part in body


def test_an_absent_card_is_none(tmp_path):
    assert read(Source(str(tmp_path))) is None


def test_a_damaged_card_does_not_stop_a_model(tmp_path):
    (tmp_path / "README.md").write_bytes(b"caf\xe9")
    assert read(Source(str(tmp_path))) == "caf\ufffd"
