"""PyTorch's two formats: TorchScript and torch.export."""
