"""Many runs: planned, launched, compared."""
