"""Training LoRAs: reading the examples, taking the steps, keeping the state."""
