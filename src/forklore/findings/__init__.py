"""What is wrong in a trace: rules over the model, what each needs to be told, and what they find."""
