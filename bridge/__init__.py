"""From ring to answer. Knows no carrier by name."""
