"""Diffusion over motion vectors: schedule, samplers, guidance, losses."""
