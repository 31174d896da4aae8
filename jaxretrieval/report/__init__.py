"""What a trained head finds, in tables and pictures: `__main__` has it all."""
