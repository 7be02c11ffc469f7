"""The paper's figures: which runs make them up, their training, their results, their tables and pictures."""
