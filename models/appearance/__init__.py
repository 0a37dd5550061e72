"""Networks that look at single frames: MUSIQ, CLIP, DINO; see `macebench.models.appearance.statistics`.

Nothing is imported here: torch is loaded when a network is made.
"""
