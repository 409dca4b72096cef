"""Personal data of well-defined form in texts: find it, and put placeholders in its place."""
