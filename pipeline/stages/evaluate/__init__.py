"""The stage ``evaluate``: sample base and policy, score both, ask judges, and compare."""
