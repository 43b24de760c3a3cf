"""Which part of a clip an edit may change: regions from masks, from words, and from what the prompt changes."""
