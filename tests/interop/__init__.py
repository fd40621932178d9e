"""Pipecat's own code against ours; `make interop` runs it."""
