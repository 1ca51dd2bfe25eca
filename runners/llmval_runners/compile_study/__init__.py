"""Study of a compile that may hang: eager beside torch.compile, a watchdog, and a bundle for PyTorch's maintainers."""
