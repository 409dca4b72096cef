"""The stages' bodies. The commands that open them are pipeline/STAGE.py."""
