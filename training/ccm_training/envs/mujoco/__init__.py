"""MuJoCo's locomotion families: robots, laws, and many simulations in one batch."""
