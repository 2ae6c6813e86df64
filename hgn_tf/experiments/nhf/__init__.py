"""Neural Hamiltonian Flows and usual flows: runs, tables and figure 9."""
