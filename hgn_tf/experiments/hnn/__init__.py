"""Hamiltonian Neural Networks from states: runs, table and figures."""
