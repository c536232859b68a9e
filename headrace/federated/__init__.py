"""Federated averaging between sites, by Flower; nothing else imports `flwr`."""
