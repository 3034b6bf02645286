"""Fine-tuning: data, the training loop, the run directory, its figures and pages."""
