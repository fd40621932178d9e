"""A carrier on your laptop: python -m simulator PROVIDER."""
