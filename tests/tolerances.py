"""How far apart numbers may be, and why. Absolute, on vectors of length about 1 unless said otherwise."""

# The same float32 sums in the same order, on the same code path.
SAME = 0.0

# The same text in a batch of other shape: float32 matrix products choose other block sizes.
BATCH = 1e-6

# Packed against padded, or against the older library: softmax and sums over other shapes, a few layers deep.
PACKED = 1e-5

# As PACKED, for weights of a real model and its twelve thousand multiply-adds a number.
REAL_MODEL = 1e-5

# A float32 formula against the plain loop in the same precision, values of size about 1.
FORMULA = 1e-6

# As FORMULA where the numbers themselves are around 10 (distances, sums over many tokens).
FORMULA_LARGE = 1e-5

# float16 keeps 11 bits, so numbers up to 4 are rounded by up to 2e-3.
HALF = 4e-3

# bfloat16 keeps 8 bits, so numbers up to 4 are rounded by up to 1.6e-2.
BFLOAT = 3e-2

# Two layers in bfloat16 with float32 pooling: each layer rounds to 8 bits, the cosine to the float32 vector stays.
BFLOAT_COSINE = 0.999

# Two layers there and back in bfloat16: each gradient's cosine to the one in float32.
BFLOAT_GRADIENT = 0.98

# One float32 multiply-add a number, numpy against torch.
STATIC = 1e-6

# As PACKED, for gradients and sums over a batch, as a share of the largest one.
GRADIENT = 1e-5

# Losses of two hundred steps: each step's rounding moves the weights that the next one starts from.
CURVE = 1e-4
