"""The nonlinear blur: published and embedded networks, the operator, and how the embedded one is trained."""
