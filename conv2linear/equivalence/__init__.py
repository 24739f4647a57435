"""The proof that both layers are the same map, on torch; only `outcome` needs none."""
