"""What stages measured, as types, and the one place that reads and writes them as a manifest's ``stats``."""
