"""What fine-tuning and pretraining share: run directories, logs, checkpoints."""
