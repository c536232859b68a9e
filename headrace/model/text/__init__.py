"""The parts of a text classifier: words, a frozen encoder, its adapter, and what weighs them."""
