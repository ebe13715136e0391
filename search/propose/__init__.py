"""Proposal of candidates: samplers, allocation, screening."""
