"""For whoever runs it: what is up, what is wrong, and how the processes are kept up."""
