"""The base model and its LoRA roles: loading, sampling, log-probabilities."""

from pipeline.base.process import accept_deprecations

accept_deprecations()  # also in scripts that import this package and are no stage
