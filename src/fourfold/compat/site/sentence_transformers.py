"""Stands for the older library in a Python that has this file's folder in its ``PYTHONPATH``."""

if __name__ == "sentence_transformers":
    import sys

    from fourfold.compat import install_alias

    # The alias then fills this place, and the import that came here takes what it finds there.
    del sys.modules[__name__]
    install_alias()
