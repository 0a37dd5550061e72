"""Models and pose estimators. torch is imported here and only when a model is made."""
