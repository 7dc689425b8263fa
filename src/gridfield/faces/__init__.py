"""One file per framework: how its arrays are looked at, and how an op is bound to it."""
