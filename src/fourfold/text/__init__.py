"""Texts to token ids: inputs, prompts, tokenizers. Knows no model."""
