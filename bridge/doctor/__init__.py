"""flask --app app doctor: what is wrong with a bridge, before the first call finds out."""
