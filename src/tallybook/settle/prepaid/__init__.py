"""What can be done with wallets: top up, take back, let lapse, watch and recharge."""
