"""Speed, measured against what the machine can do and against PyTorch eager."""
