"""Who gives scores: reward models, functions, classifiers, judges."""
