"""One file a paper: its models, losses, corruption, configuration and training step."""
