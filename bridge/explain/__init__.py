"""flask --app app explain-signature: why a webhook is refused, and what would make it pass."""
