"""The tasks of Hamiltonian Neural Networks: rows and builders of `hnn_*`."""
