"""Networks: architectures, weights, inference, files of networks, export."""
