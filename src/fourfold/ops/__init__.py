"""Pure functions on arrays and tensors: attention, pooling, similarity, top-k, quantisation."""
