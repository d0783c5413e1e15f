"""What `python -m tokenward` does: one module for each command."""
