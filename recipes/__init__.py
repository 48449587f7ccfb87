"""Scripts that make and measure the weights shipped in `fourfold.builtin`."""
