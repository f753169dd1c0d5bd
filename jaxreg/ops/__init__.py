"""Pure functions of arrays: sampling, composition, filters, pyramids, Jacobians, certificate."""
