"""The command ``sweep``: carry out the runs, and write a version of their figures."""
