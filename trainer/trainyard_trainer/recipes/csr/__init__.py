"""Concepts, then prototypes, then diagnoses of chest X-rays (CSR), in three stages."""
