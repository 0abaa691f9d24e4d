"""The console: pages for people in a browser, rendered here, with nothing from anywhere else."""
