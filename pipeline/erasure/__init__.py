"""Erase a person: find their answers, replace the versions that contain them."""
