"""What is told of operations and events, to pages and to commands in the same words."""
