"""Many runs as one: which jobs there are, how each of them stands, and what they found together."""
