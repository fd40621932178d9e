"""The promises this project makes, one sentence each."""
