"""Entry scripts that run on the GPUs, by path, under torchrun or plain Python."""
