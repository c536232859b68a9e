"""Events: the contract they keep, and the log that stores them."""
