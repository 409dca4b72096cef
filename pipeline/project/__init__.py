"""A project outside this repository: ``init`` writes its files; files/ has those that are nowhere else."""
