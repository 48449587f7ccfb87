"""Words are what stands between white space."""

from __future__ import annotations

import string
from typing import Any, ClassVar

from fourfold.modules.tokenizer._base import VocabularyTokenizer


class WhitespaceTokenizer(VocabularyTokenizer):
    """Split a text at white space.

    Each word counts as it is, else without the punctuation around it, else that in lower case: the first of these that
    is a stop word is left out, the first that has an id gives it.

    Args:
        vocab: Words by id. Of a word that occurs twice the later place counts.
        stop_words: Words that are left out.
        do_lower_case: Whether texts are lower-cased first.

    >>> WhitespaceTokenizer(["fox", "dog"]).tokenize("The Fox and the 'dog'!")
    [0, 1]
    """

    config_file_name: ClassVar[str] = "whitespacetokenizer_config.json"

    def tokenize(self, text: str, **kwargs: Any) -> list[int]:
        """Return the ids of a text's words."""
        ids = []
        for word in (text.lower() if self.do_lower_case else text).split():
            bare = word.strip(string.punctuation)
            found = self.first_known(word, bare, bare.lower()) if bare else self.first_known(word)
            if found is not None:
                ids.append(found)
        return ids
