"""How right is a reward model, and where not?"""
