"""Meta-train an agent with CCM and its relatives."""
