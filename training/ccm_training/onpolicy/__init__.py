"""On-policy meta-learning: methods that learn from fresh episodes of the policy that they improve."""
