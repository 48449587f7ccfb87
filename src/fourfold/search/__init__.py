"""Search over a person's files: readers, passages, the index beside the data, ranking."""
