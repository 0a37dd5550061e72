"""Building blocks of the motion networks: selective scan, Mamba, cross-attention, FiLM, embeddings."""
