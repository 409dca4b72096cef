"""The truths of the tasks that come with the package: what makes a completion good, which no stage learns from."""
