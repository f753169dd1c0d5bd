"""Whether a registration can be trusted: what is wrong with a pair, and where."""
