"""Talk to a policy: base and policy answer side by side, and people say what they think of the answers."""
