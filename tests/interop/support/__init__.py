"""What the tests of this suite share: they drive the binary named by PROCSTAR."""
