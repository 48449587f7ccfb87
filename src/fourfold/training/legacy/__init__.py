"""Datasets and readers of the older training interface, which trains on lists of ``InputExample``.

Readers turn files into examples; datasets and loaders turn examples into batches. What they draw at random comes from
the global generators of ``random`` and numpy, in the order that the older library draws it: a seeded script meets the
same batches.
"""
