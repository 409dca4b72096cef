"""Who answers for a version: sign-offs bound to its bytes, and a log of them whose lines are chained by hash."""
