"""Independent witnesses of what a program created, and the comparison of forklore's tree with them."""
