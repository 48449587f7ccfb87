"""The older library's names: its import paths, and its own name on request.

Every path of sentence-transformers below its top name works below ``fourfold``: ``fourfold.util``,
``fourfold.models``, ``fourfold.sentence_transformer.modules``. A script that must stay as it is runs under the old
name::

    python -m fourfold.compat script.py

or calls :func:`install_alias` first.
"""

from fourfold.compat.alias import install_alias, uninstall_alias

__all__ = ["install_alias", "uninstall_alias"]
