"""RoI heads: they sample proposals, pool from them, and run bbox and mask heads."""
