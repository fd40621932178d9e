"""A local stand-in for Pipecat Cloud: python -m gateway."""
