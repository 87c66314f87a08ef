"""What is sold, to whom, and when: meters, plans, prices, customers, subscriptions."""
