"""The encoder families: a declaration and a public class each."""
