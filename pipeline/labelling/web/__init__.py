"""The page people label on, and the operator's."""
