"""curve_fit: arguments, data and models of a fit, its solver, what it returns, and derivatives of the optimum."""
