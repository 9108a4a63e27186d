"""Helpers of this suite, which tests the binary named by PROCSTAR."""
