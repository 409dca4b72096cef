"""``loop``: rounds of the stages, each on the samples of the policy of the round before."""
